"""The files of a folder that count: not what systems, tools and this project itself keep there."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Files and folders, in lower case, that systems and tools put beside photos; names that begin with a dot are hidden.
SYSTEM_NAMES = frozenset(
    (
        *("@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@transcode", "~snapshot"),  # QNAP, NetApp
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "msocache"),  # Windows
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "zbthumbnail.info"),
        *("__macosx", "network trash folder", "temporary items", "icon\r"),  # macOS
        *("lost+found", "aquota.user", "aquota.group"),  # Linux
        *("__pycache__", "node_modules"),
    )
)
#: A folder with this file in it is a cache that can be made again (https://bford.info/cachedir/).
CACHE_TAG = "CACHEDIR.TAG"
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Listing(NamedTuple):
    """Sorted relative names of the files in a folder; what else was found is by relative name, with the reason.

    ``special`` are no files but pipes, sockets and devices; ``skipped`` are folders that hold nothing of the user.
    """

    files: list[str]
    special: dict[str, str]
    skipped: dict[str, str]


def is_visible(name: str) -> bool:
    """Whether no part of a relative name is hidden or made by a system or a tool.

    >>> is_visible("cat/1.png"), is_visible("cat/.1.png"), is_visible("__MACOSX/cat/1.png")
    (True, False, False)
    """
    return not any(part.startswith(".") or part.lower() in SYSTEM_NAMES for part in name.split("/"))


def mark_as_cache(folder: Path) -> None:
    """Mark a folder as a cache, for this project and for backup tools; it is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _SIGNATURE.decode() + "\n# Intermediate results of this project: they can be deleted and made again.\n"
    if not (folder / CACHE_TAG).exists():
        (folder / CACHE_TAG).write_text(text, encoding="utf-8")


def list_files(folder: Path) -> Listing:
    """The visible files of a folder at any depth, links followed; pipes, sockets and devices are never opened.

    Folders inside that are caches (`CACHE_TAG`) or hold models that this project published are skipped.

    Raises:
        OSError: a folder cannot be read.
    """
    listing = Listing([], {}, {})
    for here, names in _walk(folder, listing.skipped):
        place, prefix = os.fspath(here), "" if here == folder else f"{here.relative_to(folder).as_posix()}/"
        for name in names:
            relative = f"{prefix}{name}"
            if kind := special_kind(f"{place}/{name}"):
                listing.special[relative] = f"{kind}, not a file"
            else:
                listing.files.append(relative)
    return listing._replace(files=sorted(listing.files))


def visible_files(folder: Path) -> list[str]:
    """Sorted relative names of the files in a folder, as `list_files` finds them."""
    return list_files(folder).files


def _walk(folder: Path, skipped: dict[str, str]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder that is not skipped with its visible names; those that are skipped are put into ``skipped``."""

    def fail(error: OSError) -> None:
        raise error

    entered = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here = Path(place)
        entered.add(here.resolve())
        visible = sorted(filter(is_visible, folders))
        folders[:] = [name for name in visible if (here / name).resolve() not in entered]  # links may form a circle
        if here != folder and (reason := _own_or_cache(here, files)):
            skipped[here.relative_to(folder).as_posix()] = reason
            folders.clear()
        else:
            yield here, list(filter(is_visible, files))


def _own_or_cache(folder: Path, files: list[str]) -> str:
    """Why a folder with these files in it holds no photos of the user; empty if it may."""
    if CACHE_TAG in files and not special_kind(folder / CACHE_TAG):
        with (folder / CACHE_TAG).open("rb") as file:
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return f"a cache, as its {CACHE_TAG} says"
    is_version = re.fullmatch(r"v\d{4,}", folder.name) and "manifest.json" in files
    return "a model that was published" if is_version or "champion.json" in files else ""


def special_kind(path: str | Path) -> str:
    """What a path leads to if that is a pipe, a socket or a device; empty if it is not, or is missing."""
    try:
        return _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode), "")  # noqa: PTH116  (as in `digests`)
    except FileNotFoundError:
        return ""  # a broken link: whoever reads it says so
