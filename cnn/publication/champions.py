"""Champions: which published version of a model is the best, and what happens when that cannot be read any more."""

import logging
from pathlib import Path

from cnn.publication.manifest import CHAMPION_FILE, MAX_BYTES, Champion, Manifest
from cnn.publication.versions import can_answer, is_first, version_folders, versions
from cnn.support.errors import UserError
from cnn.support.files import NO_FILE, atomic_file, read_file

logger = logging.getLogger(__name__)


def champion(folder: Path) -> Path | None:
    """The version that ``champion.json`` names, or None if there is no such file.

    Raises:
        UserError: the file cannot be read or names a version that is not there.
    """
    file = folder / CHAMPION_FILE
    try:
        entry = Champion.model_validate_json(read_file(file, MAX_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_FILE:
            raise
        raise UserError(f'{file}: expected {{"version": "v0001", …}}, found something else; publish again.') from error
    version = folder / entry.version
    if version not in version_folders(folder):
        raise UserError(f"{file}: names {version.name}, which is not there; publish again.")
    return version


def promote(version: Path) -> None:
    """Make a version the champion of its folder, in a single step."""
    manifest = Manifest.open(version)
    entry = Champion(
        version=version.name, metrics=manifest.metrics, notes=manifest.lineage.notes, since=manifest.created
    )
    with atomic_file(version.parent / CHAMPION_FILE) as temporary:
        temporary.write_text(entry.model_dump_json(indent=2), encoding="utf-8")


def newest_promoted(folder: Path) -> Path | None:
    """The newest version that was promoted and can still answer, None if there is none."""
    promoted = [version for version, manifest in versions(folder).items() if manifest.promoted]
    return next(filter(can_answer, reversed(promoted)), None)


def standing_champion(folder: Path) -> Path | None:
    """The champion that can answer: the one that ``champion.json`` names, else the newest that was promoted.

    What is wrong with the former is logged. None if no version that was promoted can answer.
    """
    try:
        named = champion(folder)
        problem = f"{folder / CHAMPION_FILE} is missing."
        if named and can_answer(named):
            return named
        if named:
            problem = f"{named} was altered since it was published, and cannot be the champion any more."
    except UserError as error:
        problem = str(error)
    found = newest_promoted(folder)
    if found:
        logger.warning("%s The champion is %s, the newest intact version that was promoted.", problem, found.name)
    elif not is_first(folder):
        logger.warning("%s No other version that was promoted is intact.", problem)
    return found


def restore_champion(folder: Path) -> Path | None:
    """`standing_champion`, which ``champion.json`` names from now on."""
    best = standing_champion(folder)
    try:
        named = champion(folder)
    except UserError:
        named = None
    if best and best != named:
        if (file := folder / CHAMPION_FILE).is_dir():
            file.rename(folder / f"damaged-{CHAMPION_FILE}")
        promote(best)
    return best


def find_champion(models: Path, name: str | None = None) -> Path:
    """The champion called ``name``; without a name the only one there is, or ``hotdog``.

    Raises:
        UserError: there is none, or several and no name.
    """
    published = sorted(path.name for path in models.glob("*") if path.is_dir() and not is_first(path))
    if name is None:
        name = published[0] if len(published) == 1 else "hotdog"
    if name not in published:
        found = ", ".join(published) or "nothing; publish one with python flows/hotdog.py"
        raise UserError(f"{models}: no model {name!r} is published there; expected one of: {found}.")
    folder = models / name
    try:
        version = champion(folder)
    except UserError:
        version = None
    if version := version or standing_champion(folder):
        return version
    raise UserError(
        f"{folder}: none of its versions is the champion and can answer; publish one with promote set to always."
    )
