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


def synchronise(address: str, path: Path) -> None:
    """Make a folder or a file on this machine the same as the objects at an address.

    Only those are downloaded whose size or ETag differs from when they were downloaded last.

    Raises:
        UserError: there is none.
    """
    place, record = Object(address), path.with_name(f".{path.name}.objects.json")
    known: dict[str, list[object]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(record.read_text(encoding="utf-8"))
    wanted = objects_at(address)
    have = {name for name, seen in wanted.items() if known.get(name) == [*seen[:2]] and (path / name).is_file()}

    def download(name: str) -> str:
        (place / name if name else place).download(path / name, e_tag=wanted[name].e_tag)
        return name

    try:
        missing = ordered_map(download, (name for name in wanted if name not in have), threads=TOGETHER)
        have.update(track(missing, "downloading", len(wanted) - len(have), "object"))
    finally:
        with atomic_file(record) as temporary:
            temporary.write_text(json.dumps({name: wanted[name][:2] for name in have}), encoding="utf-8")
    for name in visible_files(path) if path.is_dir() else ():
        if name not in wanted:
            (path / name).unlink()


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
