"""Settings from flags, and a user's mistake as one sentence: shared by everything that is run from a terminal."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from cnn.errors import UserError
from cnn.files import Reference
from cnn.model_card import summary
from cnn.settings import FlowSettings

Settings = TypeVar("Settings", bound=BaseModel)
Run = TypeVar("Run", bound=FlowSettings)


def _objections(settings: type[BaseModel], loc: tuple[int | str, ...], value: Any) -> str:
    """What the settings' JSON schema has against a value: the words in which Prefect's form refuses it, too.

    >>> _objections(FlowSettings, ("seed",), "-1")
    '-1 is less than the minimum of 0'
    """
    schema = settings.model_json_schema()
    for part in loc:
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    with suppress(TypeError, ValueError):  # flags are text, a form's numbers are numbers
        value = int(value) if schema.get("type") == "integer" else value
    return "; ".join(objection.message for objection in Draft202012Validator(schema).iter_errors(value))


def _sentence(settings: type[BaseModel], error: ValidationError) -> str:
    """A validation error as ``--flag value: what is wrong with it`` for each setting."""
    problems = {problem["loc"]: problem for problem in error.errors()}
    inside = {loc[:-1] for loc in problems}  # a list is not complained of beside what is in it
    return "; ".join(
        f"--{'.'.join(part for part in loc if isinstance(part, str))} {problem['input']}: "
        f"{_objections(settings, loc, problem['input']) or problem['msg']}"
        for loc, problem in problems.items()
        if loc not in inside
    )


def parse(settings: type[Settings], arguments: list[str] | None = None) -> Settings:
    """Settings from command-line flags; the model's fields are the flags, their descriptions the help.

    Raises:
        UserError: a value is not one that the settings allow.
        SystemExit: an unknown flag, or ``--help``.
    """

    class Flags(BaseSettings, settings):  # type: ignore[misc, valid-type]
        __doc__ = settings.__doc__
        model_config = SettingsConfigDict(cli_hide_none_type=True, cli_avoid_json=True, cli_implicit_flags=True)

        @classmethod
        def settings_customise_sources(cls, *_: Any, init_settings: Any, **__: Any) -> Any:  # type: ignore[override]
            return (init_settings,)  # a variable of the environment that happens to be called "data" is none of ours

    try:
        flags = CliApp.run(Flags, cli_args=sys.argv[1:] if arguments is None else arguments)
        return settings(**{name: getattr(flags, name) for name in settings.model_fields})
    except ValidationError as error:
        raise UserError(_sentence(settings, error)) from error
    except SettingsError as error:
        raise UserError(str(error)) from error


def run(main: Callable[[], Any]) -> None:
    """Run ``main``; end with one sentence and status 1 on a user's mistake, 130 on Ctrl-C."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has gone; without this, Python complains at its end
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except RuntimeError as error:
        if "Failed to reach API" not in str(error):
            raise
        sys.exit(f"error: Prefect's server: {error}: start it with prefect server start, or unset PREFECT_API_URL.")
    except KeyboardInterrupt:
        sys.exit(130)


def run_flow(settings: type[Run], flow: Callable[[Run], Reference]) -> None:
    """Run a flow with settings from the command line and print the summary of the version it published."""

    def main() -> None:
        chosen = parse(settings)
        chosen.check()  # again in the flow, but here it need not wait for Prefect's server
        print(summary(flow(chosen).path))

    run(main)
