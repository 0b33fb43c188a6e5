"""Objects as files, of which only what is read is transferred."""

import io
from bisect import bisect
from collections.abc import Callable, Sequence

#: Reads parts of an object, each given by its first byte and the one behind its last.
Read = Callable[[Sequence[int], Sequence[int]], Sequence[bytes]]
_LEAST = 1 << 16  # bytes that are read at a time


class RangeFile(io.RawIOBase):
    """A file of ``size`` bytes that ``read`` reads parts of; the last that was read, and what was preloaded, is kept.

    >>> file = RangeFile(lambda begins, ends: [b"abcdefgh"[a:b] for a, b in zip(begins, ends)], size=8)
    >>> file.preload([(0, 3), (5, 8)])
    >>> file.seek(-2, io.SEEK_END), file.read(9)
    (6, b'gh')
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size, self._at = read, size, 0
        self._begins: list[int] = []
        self._blocks: list[bytes] = []

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position that is counted from the begin, from the present one or from the end."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def preload(self, parts: Sequence[tuple[int, int]]) -> None:
        """Read parts, several at a time, and keep them in the place of those that were kept before."""
        begins, ends = zip(*sorted(parts), strict=True)
        self._begins, self._blocks = list(begins), list(self._read(begins, ends))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, as far as there are bytes; returns how many."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        if (kept := self._kept(end)) is None:
            self.preload([(self._at, min(max(end, self._at + _LEAST), self._size))])
            kept = self._kept(end)
        assert kept
        buffer[: len(kept)] = kept
        self._at = end
        return len(kept)

    def _kept(self, end: int) -> memoryview | None:
        """The bytes from the present position to ``end``, if all of them are kept."""
        number = bisect(self._begins, self._at) - 1
        if number < 0 or end > self._begins[number] + len(self._blocks[number]):
            return None
        return memoryview(self._blocks[number])[self._at - self._begins[number] : end - self._begins[number]]
