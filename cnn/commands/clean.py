"""``python -m cnn clean``: what no run uses any more in a store."""

import argparse
from pathlib import Path
from shutil import rmtree

from cnn.commands.arguments import Commands, add_command, as_place
from cnn.support.errors import UserError
from cnn.support.files import folder_size
from cnn.support.remote import address_of
from cnn.support.store import unreachable
from cnn.support.text import printable


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    does = "list what no run of the present code with the present data uses in the store any more, or delete it"
    command = add_command(commands, "clean", does, _run)
    command.add_argument(
        "--store", type=as_place, default=Path(".cache"), help="folder of the flows' intermediate results"
    )
    command.add_argument("--delete", action="store_true", help="delete it; without this, it is only listed")


def _run(given: argparse.Namespace) -> None:
    clean(given.store, delete=given.delete)


def clean(store: Path, *, delete: bool = False) -> None:
    """List or delete what is of no more use in a store, with its size and the reason.

    Raises:
        UserError: there is no such folder.
    """
    if address := address_of(store):
        raise UserError(
            f"store {address}: only folders are cleaned; a lifecycle rule of the bucket may delete old objects: "
            "what is needed is made again."
        )
    if not store.is_dir():
        raise UserError(f"store {store}: there is no such folder; name the one that the flows used.")
    total = 0
    for path, reason in unreachable(store.absolute()):
        size = folder_size(path)
        total += size
        print(f"{size / 1e6:>10.1f} MB  {printable(str(path))}: {reason}")
        if delete:
            rmtree(path) if path.is_dir() else path.unlink()
    print(f"{total / 1e6:>10.1f} MB in all{' deleted' if delete else '; to delete this, add --delete'}")
