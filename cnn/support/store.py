"""The store: folders of intermediate results, each named by what went into it, and which of them are of no more use."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cnn.support import remote
from cnn.support.digests import content_digest
from cnn.support.files import abandoned, atomic_file
from cnn.support.fingerprint import PROJECT
from cnn.support.listing import mark_as_cache
from cnn.support.objects import SCHEMES
from cnn.support.references import Reference

_CHARACTERS = 16  # of a key, in a folder's name
DOWNLOADS = "downloads"  # the only folder whose content is found by name and not by key
_KEPT = (DOWNLOADS, *(f"{scheme}:" for scheme in SCHEMES))  # and working copies of stores at addresses


class Origin(BaseModel):
    """What led to a folder of the store, kept in a file beside it.

    Attributes:
        made_by: the definitions of the project that make its content.
        fingerprint: `PROJECT`'s fingerprint of them.
        inputs: path → checksum of each file or folder that it was made from.
    """

    model_config = ConfigDict(frozen=True)

    made_by: tuple[str, ...]
    fingerprint: str
    inputs: dict[Path, str]


def keyed_folder(store: Path, kind: str, key: str, made_by: tuple[str, ...], inputs: list[Reference]) -> Path:
    """The place of the folder for what ``key`` leads to; the folder itself is not made, but its origin is recorded."""
    folder = store / kind / key[:_CHARACTERS]
    mark_as_cache(folder.parent)  # so that a store inside a folder of photos is never read as photos
    origin = Origin(
        made_by=made_by,
        fingerprint=PROJECT.fingerprint(*made_by),
        inputs={reference.path: reference.checksum for reference in inputs},
    )
    with atomic_file(_origin_file(folder)) as temporary:
        temporary.write_text(origin.model_dump_json(indent=2), encoding="utf-8")
    return folder


def _origin_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def remove_keyed(folder: Path) -> None:
    """Delete a keyed folder and the record of its origin."""
    remote.remove(folder)
    _origin_file(folder).unlink(missing_ok=True)


def unreachable(store: Path) -> Iterator[tuple[Path, str]]:
    """What in a store no run of the present code with the present data leads to: each path with the reason."""
    yield from ((path, "left by a killed run") for path in abandoned(store))
    kept = [path for path in sorted(store.glob("*/[!.]*")) if path.is_dir() and path.parent.name not in _KEPT]
    gone: set[Path] = set()
    while found := {path: reason for path in kept if path not in gone and (reason := _obsolete(path, store, gone))}:
        gone |= set(found)
        for path, reason in found.items():
            yield path, reason
            if (file := _origin_file(path)).exists():
                yield file, reason


def _obsolete(folder: Path, store: Path, gone: set[Path]) -> str:
    """Why a keyed folder is of no more use; empty if it is of use."""
    try:
        origin = Origin.model_validate_json(_origin_file(folder).read_text(encoding="utf-8"))
        fingerprint = PROJECT.fingerprint(*origin.made_by)
    except (OSError, ValueError, LookupError):
        return "made by another release of this project"
    if fingerprint != origin.fingerprint:
        return "made by code or libraries that have changed since"
    for path, checksum in origin.inputs.items():
        if gone.intersection((path, *path.parents)):
            return f"made from {path.parent.name}/{path.name}, which is of no more use"
        if not path.exists() or (not path.is_relative_to(store) and content_digest(path) != checksum):
            return f"made from {path}, which has changed or is gone"
    return ""
