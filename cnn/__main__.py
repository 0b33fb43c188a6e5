"""Use what the pipeline published, check images, and tidy up: python -m cnn classify|audit|models|serve|clean …."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from cnn.support.commandline import run
from cnn.support.errors import UserError

#: Modules of `cnn.commands`.
_COMMANDS = ("classify", "audit", "models", "serve", "clean")


def parser(commands: Sequence[str] = _COMMANDS) -> argparse.ArgumentParser:
    """What the command line may say, as far as what the commands need is installed.

    Raises:
        UserError: what the only command needs is not installed.
    """
    found = argparse.ArgumentParser("python -m cnn", description=__doc__, allow_abbrev=False)
    added = found.add_subparsers(metavar="|".join(_COMMANDS))
    for command in commands:
        try:
            module = importlib.import_module(f"cnn.commands.{command}")
        except ModuleNotFoundError as error:  # requirements/predict.txt has what classify and serve need
            if len(commands) == 1:
                raise UserError(f"{command}: {error.name} is not installed: install requirements/cpu.txt.") from error
        else:
            module.add(added)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that was given, by default by this program's arguments.

    Raises:
        UserError: none was given, or it cannot do what was asked.
        SystemExit: an unknown flag, or ``--help``.
    """
    words = sys.argv[1:] if arguments is None else arguments
    asked = [command for command in _COMMANDS if command in words[:1]]  # no other is imported, which takes time
    given = parser(asked or _COMMANDS).parse_args(words)
    if not hasattr(given, "run"):
        raise UserError(f"expected a command, found none: python -m cnn {' or '.join(_COMMANDS)}.")
    given.run(given)


if __name__ == "__main__":
    run(main)
