"""Flows as commands: settings from flags, a server that can be used, and the summary of what was published."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prefect import Flow
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from cnn.publication.model_card import summary
from cnn.support.commandline import run
from cnn.support.errors import UserError
from cnn.support.validation import describe_validation
from flows.server import require_server
from flows.settings import FlowSettings

Settings = TypeVar("Settings", bound=BaseModel)


def flag(setting: str) -> str:
    """The flag of a setting.

    >>> flag("min_new")
    '--min-new'
    """
    return f"--{setting.replace('_', '-')}"


def parse(settings: type[Settings], arguments: list[str] | None = None) -> Settings:
    """Settings from command-line flags; the model's fields are the flags, their descriptions the help.

    Raises:
        UserError: a value is not one that the settings allow.
        SystemExit: an unknown flag, or ``--help``.
    """

    class Flags(BaseSettings, settings):  # type: ignore[misc, valid-type]
        __doc__ = settings.__doc__
        model_config = SettingsConfigDict(
            cli_hide_none_type=True, cli_avoid_json=True, cli_implicit_flags=True, cli_kebab_case=True
        )

        @classmethod
        def settings_customise_sources(cls, *_: Any, init_settings: Any, **__: Any) -> Any:  # type: ignore[override]
            return (init_settings,)  # a variable of the environment that happens to be called "data" is no setting

    try:
        flags = CliApp.run(Flags, cli_args=sys.argv[1:] if arguments is None else arguments)
        return settings(**{name: getattr(flags, name) for name in settings.model_fields})
    except ValidationError as error:
        raise UserError(describe_validation(error, flag)) from error
    except SettingsError as error:
        raise UserError(str(error)) from error


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
