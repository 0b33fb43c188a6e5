"""Kinds of image files that are not decoded, by their bytes: refused by name, or because they would take too long."""

import re
import struct
from collections.abc import Iterator

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_SIGNATURES = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"FUJIFILMCCD-RAW": "camera raw (RAF)",
    b"IIRO": "camera raw (ORF)",
    b"IIRS": "camera raw (ORF)",
    b"MMOR": "camera raw (ORF)",
    b"IIU\0": "camera raw (RW2)",
    b"8BPS": "PSD",
    b"%PDF-": "PDF",
}

# TIFF 6.0 and its extensions
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 262, 271, 330, 50706
_IS_THUMBNAIL = 1  # a bit of NewSubfileType: a reduced version of another image in the file
_SENSOR_DATA = {32803, 34892}  # colour filter array, linear raw
_MAKERS = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW", b"Hasselblad": "3FR"}
_MOST_SUB_DIRECTORIES = 16

_Directory = dict[int, tuple[int, int, bytes]]  # tag → type, count, the value or where it is

#: A JPEG of more passes over the image is refused: encoders make about ten, the most thorough less than twenty, and
#: each may take as long as a whole baseline JPEG.
MAX_SCANS = 100


def refused_kind(data: bytes) -> str | None:
    """What the file is, if it is of a kind that is known and not read; else None.

    >>> refused_kind(bytes.fromhex("ff0a7f5f")), refused_kind(bytes.fromhex("ffd8ffe0"))
    ('JPEG XL', None)
    """
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if data[4:8] == b"ftyp":
        return _boxed_kind(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_kind(data, "<" if data[:1] == b"I" else ">")
    return None


def _boxed_kind(data: bytes) -> str | None:
    """HEIC and CR3 by the brands in the first box of an ISO media file."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, size, 4))}
    if brands & _AVIF_BRANDS:
        return None
    if brands & _HEIF_BRANDS:
        return "HEIC"
    return "camera raw (CR3)" if b"crx " in brands else None


def _tiff_kind(data: bytes, order: str) -> str | None:
    """Camera raw, and other TIFFs whose first image is only a thumbnail of one that Pillow does not find."""
    if data[8:12] == b"CR\x02\0":
        return "camera raw (CR2)"
    tags = _directory(data, int.from_bytes(data[4:8], "little" if order == "<" else "big"), order)
    if _DNG_VERSION in tags:
        return "camera raw (DNG)"
    inner = [_directory(data, place, order) for place in _sub_directories(data, tags, order)]
    if any(_number(each, _PHOTOMETRIC, order) in _SENSOR_DATA for each in (tags, *inner)):
        _, length, value = tags.get(_MAKE, (0, 0, bytes(4)))
        (place,) = struct.unpack(f"{order}I", value)
        make = data[place : place + min(length, 64)]
        names = [name for maker, name in _MAKERS.items() if make.startswith(maker)]
        return f"camera raw ({names[0]})" if names else "camera raw"
    is_thumbnail = _number(tags, _NEW_SUBFILE_TYPE, order) & _IS_THUMBNAIL
    return "TIFF that begins with a thumbnail" if is_thumbnail else None


def _directory(data: bytes, place: int, order: str) -> _Directory:
    """The entries of a TIFF directory; none if there is no whole one at that place."""
    count = int.from_bytes(data[place : place + 2], "little" if order == "<" else "big")
    entries = data[place + 2 : place + 2 + 12 * count]
    if len(entries) < 12 * count:
        return {}
    return {tag: (kind, length, value) for tag, kind, length, value in struct.iter_unpack(f"{order}HHI4s", entries)}


def _number(tags: _Directory, tag: int, order: str) -> int:
    """A whole number of a directory, 0 if it is not there."""
    kind, _, value = tags.get(tag, (0, 0, bytes(4)))
    short = kind == 3
    (number,) = struct.unpack(order + ("H" if short else "I"), value[:2] if short else value)
    return int(number)


def _sub_directories(data: bytes, tags: _Directory, order: str) -> Iterator[int]:
    """Places of the directories inside a directory."""
    _, count, value = tags.get(_SUB_DIRECTORIES, (0, 0, b""))
    if count > 1:
        (place,) = struct.unpack(f"{order}I", value)
        value = data[place : place + 4 * min(count, _MOST_SUB_DIRECTORIES)]
    yield from (place for (place,) in struct.iter_unpack(f"{order}I", value[: len(value) // 4 * 4]))


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more scans than `MAX_SCANS`; scans of thumbnails in its metadata do not count.

    >>> has_too_many_scans(bytes.fromhex("ffd8") + (MAX_SCANS + 1) * bytes.fromhex("ffda0002") + bytes.fromhex("ffd9"))
    True
    """
    if data.count(b"\xff\xda") <= MAX_SCANS:  # fast, and true of all but a few files
        return False
    place, scans = 2, 0
    while scans <= MAX_SCANS and (marker := _MARKER.search(data, place)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans > MAX_SCANS


# in compressed data 00 follows each FF, or else it is a restart marker
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
