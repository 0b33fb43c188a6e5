"""Command lines: settings from flags, and a user's mistake as one sentence."""

import io
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from cnn.support.errors import UserError, plain_errors
from cnn.support.validation import describe_validation

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


def run(main: Callable[[], Any]) -> None:
    """Run ``main``; end with one sentence and status 1 on a mistake of the user or a lack of the system, 130 on Ctrl-C.

    Characters that the terminal's encoding lacks are written as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with plain_errors():
            main()
            sys.stdout.flush()  # while it can still be said that it cannot be written
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has gone; without this, Python complains at its end
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
