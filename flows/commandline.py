"""Flows as commands: settings from flags, a server that can be used, and the summary of what was published."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Flow

from cnn.publication.model_card import summary
from cnn.support.commandline import parse, run
from flows.server import require_server
from flows.settings import FlowSettings


def run_flow(settings: type[FlowSettings], flow: Flow[..., Any], describe: Callable[[Path], str] = summary) -> None:
    """Run a flow with settings from the command line and describe what it gave: a published version, or a file."""

    def main() -> None:
        chosen = parse(settings)
        chosen.check()  # again in the flow, but here it need not wait for Prefect's server
        require_server()
        _exit_in_order()
        print(describe(flow(**dict(chosen)).path))

    run(main)


def _exit_in_order() -> None:
    """Exit as at the end of a program when it is terminated: Prefect's embedded server is ended on the way."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
