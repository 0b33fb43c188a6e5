"""Flows as commands: settings from flags, the summary of what was published, and Prefect's failures in words."""

from collections.abc import Callable
from typing import TypeVar

from cnn.publication.model_card import summary
from cnn.support.commandline import parse, run
from cnn.support.errors import UserError
from cnn.support.references import Reference
from flows.settings import FlowSettings

Run = TypeVar("Run", bound=FlowSettings)


def run_flow(settings: type[Run], flow: Callable[[Run], Reference]) -> None:
    """Run a flow with settings from the command line and print the summary of the version it published."""

    def main() -> None:
        chosen = parse(settings)
        chosen.check()  # again in the flow, but here it need not wait for Prefect's server
        try:
            print(summary(flow(chosen).path))
        except RuntimeError as error:
            raise _in_words(error) from error

    run(main)


def _in_words(error: RuntimeError) -> Exception:
    """Prefect's error that its server cannot be reached as a sentence; any other as it is."""
    if "Failed to reach API" not in str(error):
        return error
    return UserError(f"Prefect's server: {error}: start it with prefect server start, or unset PREFECT_API_URL.")
