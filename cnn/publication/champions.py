"""Champions: which published version of a model is the best, and what happens when that cannot be read any more."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cnn.publication.exchange import unchanged
from cnn.publication.records import CHAMPION_FILE, Champion, DamagedManifestError, read_manifest
from cnn.publication.versions import can_answer, is_first, version_folders, version_number
from cnn.support import remote
from cnn.support.errors import UserError
from cnn.support.files import NO_FILE, locked

logger = logging.getLogger(__name__)


class NoChampionError(UserError):
    """What ``champion.json`` says is nothing that can be used."""


def champion(folder: Path) -> Path | None:
    """The version that ``champion.json`` names, or None if there is no such file.

    Raises:
        NoChampionError: the file cannot be read or names a version that is not there.
    """
    entry = _entry(folder)
    return folder / entry.version if entry else None


def _entry(folder: Path) -> Champion | None:
    """What ``champion.json`` says, None if there is no such file; raises as `champion` does."""
    file = folder / CHAMPION_FILE
    try:
        entry = Champion.read(folder)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_FILE:
            raise
        raise NoChampionError(
            f'{file}: expected {{"version": "v0001", …}}, found something else; publish again.'
        ) from error
    if folder / entry.version not in version_folders(folder):
        raise NoChampionError(f"{file}: names {entry.version}, which is not there; publish again.")
    return entry


def _readable_entry(folder: Path) -> Champion | None:
    """What ``champion.json`` says, None if that cannot be read."""
    with suppress(NoChampionError):
        return _entry(folder)
    return None


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Let only this process change a model: others on this machine wait.

    Raises:
        ConflictError: another machine has replaced the champion before it was replaced in the block.
    """
    with locked(folder), unchanged(folder / CHAMPION_FILE):
        yield


def promote(version: Path, by: str = "", former: tuple[str, ...] | None = None) -> None:
    """Make a version the champion of its folder, in a single step.

    Args:
        by: who does it by hand; empty: the gate.
        former: names of the champions before it; None: those of the present champion, and that.
    """
    facts, before = read_manifest(version), _readable_entry(version.parent)
    if former is None and before:
        former = before.former if before.version == version.name else (*before.former, before.version)
    Champion(
        version=version.name,
        metrics=facts["metrics"],
        notes=tuple(facts["lineage"]["notes"]),
        since=datetime.now(UTC).isoformat(timespec="microseconds") if by else facts["created"],
        by=by,
        former=former or (),
    ).save(version.parent)


def is_due(version: Path) -> bool:
    """Whether a version was promoted by the gate after the present champion became that, but is not the champion yet.

    So it is if the process was killed before it could replace the champion that it was compared with. What was promoted
    by hand stays until something newer is published.
    """
    facts, entry = read_manifest(version), _readable_entry(version.parent)
    if not (facts["promoted"] and entry):
        return bool(facts["promoted"])
    if (facts.get("judgement") or {}).get("champion") != entry.version:  # also if there was no champion to compare with
        return False
    newer = version_number(version) > version_number(version.parent / entry.version)
    return newer and not (entry.by and facts["created"] < entry.since)


def former_champion(folder: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The last champion before the present one that can answer, and the names of those before it; None: there is none.

    Where ``champion.json`` does not name them, they are the older versions that were promoted.
    """
    entry = _readable_entry(folder)
    if entry is None:
        return None
    present = version_number(folder / entry.version)
    promoted = _promoted(folder)
    names = entry.former or tuple(path.name for path in promoted if version_number(path) < present)
    for number in reversed(range(len(names))):
        if names[number] != entry.version and can_answer(folder / names[number]):
            return folder / names[number], names[:number]
    return None


def newest_promoted(folder: Path) -> Path | None:
    """The newest version that was promoted and can still answer, None if there is none."""
    return next(filter(can_answer, reversed(_promoted(folder))), None)


def _promoted(folder: Path) -> list[Path]:
    """The versions of a model that were promoted by the gate, oldest first, as far as their manifests can be read."""
    found = []
    for version in version_folders(folder):
        with suppress(DamagedManifestError):
            if read_manifest(version).get("promoted"):
                found.append(version)
    return found


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
    except NoChampionError as error:
        problem = str(error)
    found = newest_promoted(folder)
    if found:
        logger.warning("%s The champion is %s, the newest intact version that was promoted.", problem, found.name)
    elif not is_first(folder):
        logger.warning("%s No other version that was promoted is intact.", problem)
    return found


def restore_champion(folder: Path) -> Path | None:
    """`standing_champion`, which ``champion.json`` names from now on."""
    best, entry = standing_champion(folder), _readable_entry(folder)
    if best and not (entry and entry.version == best.name):
        if (file := folder / CHAMPION_FILE).is_dir():
            file.rename(folder / f"damaged-{CHAMPION_FILE}")
        promote(best)
    return best


def published_models(models: Path) -> list[Path]:
    """Folders of all models in which something was published, sorted by name."""
    return sorted(path for name in remote.children(models) if not is_first(path := models / name))


def find_model(models: Path, name: str | None = None) -> Path:
    """Folder of the model called ``name``; without a name the only one there is, or ``hotdog``.

    Raises:
        UserError: there is none, or several and no name.
    """
    published = [path.name for path in published_models(models)]
    if name is None:
        name = published[0] if len(published) == 1 else "hotdog"
    if name not in published:
        found = ", ".join(published) or "nothing; publish one with python flows/hotdog.py"
        raise UserError(f"{models}: no model {name!r} is published there; expected one of: {found}.")
    return models / name


def find_champion(models: Path, name: str | None = None) -> Path:
    """The champion called ``name``; without a name the only one there is, or ``hotdog``.

    Raises:
        UserError: there is none, or several and no name.
    """
    folder = find_model(models, name)
    entry = _readable_entry(folder)
    if version := folder / entry.version if entry else standing_champion(folder):
        return version
    raise UserError(
        f"{folder}: none of its versions is the champion and can answer; publish one with promote set to always."
    )
