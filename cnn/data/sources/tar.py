"""Members of a tar file, one after another from a stream, with bounds on all that is read.

Python's `tarfile` goes in circles at a member of negative size, and reads whole what a header claims to be its
extension. The headers are those of POSIX ``ustar``, GNU and pax; extensions are passed over, so a name may be cut off
at 100 bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 512
_READ = 1 << 20
_EXTENSIONS = b"xgXLK"  # what says more about the next member, or about all of them
_FILE, _FOLDER = (b"0", b"\0", b"7"), b"5"


class TarError(ValueError):
    """The stream is not a whole tar file, or holds more than is allowed."""


@dataclass
class Member:
    """A member of a tar file: its name, its size in bytes, and whether it is a file or a folder (or else a link …)."""

    name: str
    size: int
    is_file: bool
    is_folder: bool


class TarReader:
    """Reads the members of a tar file in their order.

    Args:
        stream: the tar file, uncompressed; it need not be able to seek.
        max_bytes: reading more of the stream than this raises a `TarError`.
        max_members: as does finding more members.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int, max_members: int) -> None:
        self._stream, self._left, self._max_bytes, self._max_members = stream, max_bytes, max_bytes, max_members
        self._unread = 0  # bytes of the present member and its padding that are still in the stream

    def __iter__(self) -> Iterator[Member]:
        """The members; of each, `read` gives the content before the next one is taken.

        Raises:
            TarError: the file is damaged, cut off or exceeds a bound.
        """
        count = 0
        while header := self._next_header():
            member = _parse(header)
            self._unread = member.size + -member.size % _BLOCK
            count += 1
            if count > self._max_members:
                raise TarError(f"more than {self._max_members:,} members")
            if header[156:157] not in _EXTENSIONS:
                yield member
        self._require_end()

    def read(self, size: int) -> bytes:
        """So many bytes of the present member's content."""
        size = min(size, self._unread)
        self._unread -= size
        data = self._read(size)
        if len(data) < size:
            raise TarError("it ends inside a member")
        return data

    def _next_header(self) -> bytes:
        """The next header; empty at the mark of the end."""
        while self._unread:
            self.read(_READ)
        header = self._read(_BLOCK)
        if len(header) < _BLOCK:
            raise TarError("it ends without the mark of its end")
        return header if header.strip(b"\0") else b""

    def _require_end(self) -> None:
        """Only zeros may follow; reading them to the end verifies the compression's checksum, too."""
        while block := self._read(_READ):
            if block.strip(b"\0"):
                raise TarError("no member begins where one should")

    def _read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the stream, fewer only at its end."""
        data = self._stream.read(min(size, self._left + 1))
        if len(data) > self._left:
            raise TarError(f"more than {self._max_bytes:,} bytes when unpacked")
        self._left -= len(data)
        return data


def _parse(header: bytes) -> Member:
    """The member that a header of 512 bytes describes.

    Raises:
        TarError: its checksum or its size are wrong.
    """
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])  # the checksum counts as spaces
    if total != _number(header[148:156]):
        raise TarError("no member begins where one should")
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    kind = header[156:157]
    is_folder = kind == _FOLDER or (kind == b"\0" and name.endswith(b"/"))
    is_file = kind in _FILE and not is_folder
    size = _number(header[124:136]) if is_file or kind in _EXTENSIONS else 0
    return Member(name.decode(errors="surrogateescape").rstrip("/") or "/", size, is_file, is_folder)


def _number(field: bytes) -> int:
    """A number of a header, octal or, beyond 8 GiB, base 256.

    Raises:
        TarError: it is no number, or is negative.

    >>> _number(b"0000017 \\0"), _number(b"\\x80" + bytes(9) + b"\\1\\0")
    (15, 256)
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    text = field.partition(b"\0")[0].strip()
    if not all(byte in b"01234567" for byte in text):
        raise TarError("a number in a header is none")
    return int(text or b"0", 8)
