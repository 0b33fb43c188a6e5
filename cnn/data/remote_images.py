"""Remote images: objects in object storage, of which a folder on this machine is kept the same."""

import json
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cnn.support.errors import UserError
from cnn.support.files import atomic_file
from cnn.support.listing import is_visible, visible_files
from cnn.support.objects import TOGETHER, Object, Stored
from cnn.support.parallel import ordered_map
from cnn.support.progress import track

_State = list[object] | None


def synchronise(address: str, path: Path) -> None:
    """Make a folder or a file on this machine the same as the objects at an address.

    Only those are downloaded that changed since they were downloaded last (size, ETag), or whose copy did (size, time).

    Raises:
        UserError: there is none.
    """
    place, record = Object(address), path.with_name(f".{path.name}.objects.json")
    known: dict[str, _State] = {}
    with suppress(OSError, ValueError):
        known = json.loads(record.read_text(encoding="utf-8"))
    wanted = objects_at(address)
    now = {name: _state(seen, path / name) for name, seen in wanted.items()}
    have: dict[str, _State] = {name: state for name, state in now.items() if state and known.get(name) == state}

    def download(name: str) -> tuple[str, _State]:
        (place / name if name else place).download(path / name, e_tag=wanted[name].e_tag)
        return name, _state(wanted[name], path / name)

    try:
        missing = ordered_map(download, (name for name in wanted if name not in have), threads=TOGETHER)
        have.update(track(missing, "downloading", len(wanted) - len(have), "object"))
    finally:
        with atomic_file(record) as temporary:
            temporary.write_text(json.dumps(have), encoding="utf-8")
    for name in visible_files(path) if path.is_dir() else ():
        if name not in wanted:
            (path / name).unlink(missing_ok=True)  # another run may be doing the same


def _state(seen: Stored, copy: Path) -> _State:
    """What shows that neither an object nor its copy was changed; None: there is no copy."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = copy.stat()
        return [seen.size, seen.e_tag, found.st_size, found.st_mtime_ns]
    return None


def objects_at(address: str) -> dict[str, Stored]:
    """The visible objects below an address by relative names, or the one that is there, whose name is empty.

    What stands for a folder is none.

    Raises:
        UserError: there is none.
    """
    place = Object(address)
    found = place.below()
    folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    if found := {name: stored for name, stored in found.items() if is_visible(name) and name not in folders}:
        return found
    if place.key and (stored := place.stored()):
        return {"": stored}
    raise UserError(f"{address}: there is no object; check the address.")
