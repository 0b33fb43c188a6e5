"""Use what the pipeline published, check images, and tidy up: python -m cnn classify|audit|models|serve|clean …."""

import argparse
import sys
from collections.abc import Sequence

from cnn.commands import audit, classify, clean, models, serve
from cnn.support.commandline import run
from cnn.support.errors import UserError

_COMMANDS = {"classify": classify, "audit": audit, "models": models, "clean": clean, "serve": serve}


def parser() -> argparse.ArgumentParser:
    """What the command line may say; the arguments that are files or addresses are taken as they are."""
    found = argparse.ArgumentParser("python -m cnn", description=__doc__, allow_abbrev=False)
    commands = found.add_subparsers(metavar="|".join(_COMMANDS))
    for command in _COMMANDS.values():
        command.add(commands)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that was given, by default by this program's arguments.

    Raises:
        UserError: none was given, or it cannot do what was asked.
        SystemExit: an unknown flag, or ``--help``.
    """
    given = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    if not hasattr(given, "run"):
        raise UserError(f"expected a command, found none: python -m cnn {' or '.join(_COMMANDS)}.")
    given.run(given)


if __name__ == "__main__":
    run(main)
