"""``python -m cnn models``: list, show, compare, promote, roll back, prune and verify what was published."""

import argparse
import getpass
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn.commands.arguments import Commands, add_command, add_model
from cnn.publication.champions import champion, changing, find_model, former_champion, promote, published_models
from cnn.publication.differences import compare_versions
from cnn.publication.inventory import facts, find_version, problems, prunable, prune
from cnn.publication.manifest import open_manifest
from cnn.publication.model_card import history_rows
from cnn.publication.versions import version_folders
from cnn.support.errors import UserError
from cnn.support.files import folder_size
from cnn.support.text import printable

_WIDTH = 160  # of tables that are not written to a terminal


def add(commands: Commands) -> None:
    """Add the command, with its own commands, to the command line."""
    does = "list, compare, promote and delete published versions"
    command = commands.add_parser("models", help=does, description=__doc__, allow_abbrev=False)
    command.set_defaults(run=_without_command)
    own = command.add_subparsers(metavar="|".join(name for name, *_ in _COMMANDS))
    for name, does, run, arguments in _COMMANDS:
        each = add_command(own, name, does, run)
        add_model(each)
        each.add_argument("--json", action="store_true", help="print JSON instead of tables")
        for argument, description in arguments.items():
            each.add_argument(argument, help=description)
        if name == "prune":
            each.add_argument("--keep", type=_count, default=5, help="so many of the newest stay; default: 5")
            each.add_argument("--keep-days", type=_days, default=30, help="younger ones stay; default: 30")
            each.add_argument("--delete", action="store_true", help="delete them; without this, they are only listed")


def _without_command(_: argparse.Namespace) -> None:
    names = ", ".join(name for name, *_ in _COMMANDS)
    raise UserError(f"models: expected a command, found none; choose one of {names}.")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of versions, 1 or more")
    return int(text)


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of days, 0 to 100000")
    return int(text)


def _list(given: argparse.Namespace) -> None:
    folders = published_models(given.models) if given.name is None else []
    rows = [
        {"model": folder.name} | row
        for folder in folders or [find_model(given.models, given.name)]
        for row in history_rows(folder)
    ]
    _print(rows, given.json)


def _show(given: argparse.Namespace) -> None:
    version = find_version(find_model(given.models, given.name), given.version)
    if given.json:
        print(json.dumps(open_manifest(version).model_dump(mode="json"), indent=2))
    else:
        _print([{version.name: title, "": text} for title, text in facts(version).items() if text], as_json=False)


def _compare(given: argparse.Namespace) -> None:
    folder = find_model(given.models, given.name)
    first, second = (find_version(folder, name) for name in (given.first, given.second))
    found = compare_versions(first, second)
    if given.json:
        paired = found.paired.model_dump() | {"difference": found.paired.difference}
        print(json.dumps({"split": found.split, "paired": paired, "images": found.rows}, indent=2))
        return
    print(f"{second.name} against {first.name}: {found.split} {found.paired.sentence}.")
    if found.rows:
        _print(found.rows, as_json=False)


def _promote(given: argparse.Namespace) -> None:
    folder = find_model(given.models, given.name)
    with changing(folder):
        version = find_version(folder, given.version)
        _require_whole(version)
        promote(version, by=_user())
    _print_champion(version, given.json)


def _rollback(given: argparse.Namespace) -> None:
    folder = find_model(given.models, given.name)
    with changing(folder):
        found = former_champion(folder)
        if found is None:
            raise UserError(
                f"{folder}: there is no champion before the present one that can answer; promote a version."
            )
        version, former = found
        _require_whole(version)
        promote(version, by=_user(), former=former)
    _print_champion(version, given.json)


def _require_whole(version: Path) -> None:
    if found := problems(version):
        raise UserError(f"{version}: it does not match its manifest ({'; '.join(found)}): restore it or take another.")


def _user() -> str:
    """Who runs this, and where."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may not know its user
        name = str(os.getuid())
    return f"{name}@{platform.node()}"


def _print_champion(version: Path, as_json: bool) -> None:
    text = (
        json.dumps({"champion": version.name}) if as_json else f"{version.parent.name} {version.name} is the champion."
    )
    print(text)


def _prune(given: argparse.Namespace) -> None:
    folder = find_model(given.models, given.name)
    with changing(folder):
        chosen = prunable(folder, given.keep, given.keep_days)
        rows = [{"version": path.name, "MB": f"{folder_size(path) / 1e6:.1f}"} for path in chosen]
        if given.delete:
            prune(folder, chosen)
    if given.json or rows:
        _print(rows, given.json)
    if not given.json:
        done = " deleted" if given.delete else "; to delete them, add --delete" if chosen else " to delete"
        print(f"{len(chosen)} versions of {folder.name}{done}")


def _verify(given: argparse.Namespace) -> None:
    folders = published_models(given.models) if given.name is None else []
    found = {
        version: problems(version)
        for folder in folders or [find_model(given.models, given.name)]
        for version in version_folders(folder)
    }
    rows = [
        {"version": f"{version.parent.name} {version.name}", "found": "; ".join(wrong) or "as it was published"}
        for version, wrong in found.items()
    ]
    _print(rows, given.json)
    for folder in {version.parent for version in found}:
        champion(folder)  # says what is wrong with champion.json
    if damaged := [version for version, wrong in found.items() if wrong]:
        names = ", ".join(f"{version.parent.name} {version.name}" for version in damaged)
        raise UserError(f"{names}: {len(damaged)} of {len(found)} do not match their manifest; restore their files.")


def _print(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Write rows with the same keys as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row.values()))
    width = None if sys.stdout.isatty() else _WIDTH
    Console(markup=False, highlight=False, emoji=False, width=width).print(table)


_COMMANDS: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
    ("list", "all versions, the newest first, with their figures; the champion is marked", _list, {}),
    ("show", "what a version is and what it was made from", _show, {"version": "such as v0002"}),
    (
        "compare",
        "two versions on the images that both predicted, and those that they answer otherwise",
        _compare,
        {"first": "such as v0001", "second": "such as v0002"},
    ),
    ("promote", "make a version the champion, if it is whole", _promote, {"version": "such as v0002"}),
    ("rollback", "make the champion before the present one the champion again", _rollback, {}),
    ("prune", "list old versions that are not the champion or the one before it, or delete them", _prune, {}),
    ("verify", "whether the versions match their manifests; if one does not, the exit status is 1", _verify, {}),
)
