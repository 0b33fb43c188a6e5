"""What the commands of the command line share: how one is added, paths, and which model is meant."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from cnn.networks.sessions import Provider
from cnn.support.places import given_path, given_place

#: To which a command is added: ``ArgumentParser.add_subparsers()``.
Commands = Any


def add_command(
    commands: Commands, name: str, does: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """A command that calls ``run`` with what was given; ``does`` says what it does."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does, allow_abbrev=False)
    command.set_defaults(run=run)
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """The arguments that say which model is meant."""
    command.add_argument("--name", help="which model; default: the only one, or hotdog")
    command.add_argument("--models", type=as_place, default=Path("artifacts"), help="folder or s3:// of models")


def add_provider(command: argparse.ArgumentParser) -> None:
    """The arguments that say what runs the network."""
    command.add_argument(
        "--provider", choices=get_args(Provider), default="cpu", help="what runs the network; cuda: onnxruntime-gpu"
    )
    command.add_argument("--int8", action="store_true", help="answer by its network in integers of 8 bits: faster")


def as_path(text: str) -> Path:
    """A path that was given as an argument.

    Raises:
        ArgumentTypeError: it cannot be a path.
    """
    return _checked(given_path, text)


def as_place(text: str) -> Path:
    """The same of a path or an address in object storage; raises the same."""
    return _checked(given_place, text)


def _checked(check: Callable[[str], Path], text: str) -> Path:
    try:
        return check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
