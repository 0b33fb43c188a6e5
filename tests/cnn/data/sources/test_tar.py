"""Tar files, against what Python's tarfile writes."""

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.data.sources.tar import TarError, TarReader

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
MANY = 1 << 20


def tar(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT, **changes: object) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def read(data: bytes, *, max_bytes: int = MANY, max_members: int = 100) -> dict[str, bytes]:
    archive = TarReader(io.BytesIO(data), max_bytes=max_bytes, max_members=max_members)
    return {member.name: archive.read(member.size) for member in archive}


NAMES = st.text("abc/é.", min_size=1, max_size=30).map(lambda name: "x" + name.rstrip("/"))


@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6), form=st.sampled_from(FORMATS))
def test_members_are_read_in_every_format(files: dict[str, bytes], form: int) -> None:
    if form == tarfile.PAX_FORMAT:  # whose headers hold ASCII, and the name itself in an extension
        files = {name.replace("é", "e"): data for name, data in files.items()}
    assert read(tar(files, form)) == files


def test_a_member_need_not_be_read() -> None:
    archive = TarReader(io.BytesIO(tar({"a": bytes(5000), "b": b"b"})), max_bytes=MANY, max_members=100)
    assert [archive.read(1) for _ in archive] == [b"\0", b"b"]


def test_folders_and_links_are_told_apart() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("l", tarfile.SYMTYPE),
            ("p", tarfile.FIFOTYPE),
            ("f", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
    data.seek(0)
    found = {m.name: (m.is_file, m.is_folder) for m in TarReader(data, max_bytes=MANY, max_members=9)}
    assert found == {"d": (False, True), "l": (False, False), "p": (False, False), "f": (True, False)}


def with_size(field: bytes) -> bytes:
    """A tar whose first member's size is written as ``field``, with the right checksum."""
    data = bytearray(tar({"a": b"content", "b": b"more"}))
    data[124:136] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


BAD = {
    "negative": (with_size(b"\xff" * 11 + b"\0"), "is none"),  # tarfile reads this member for ever
    "minus": (with_size(b"-0000001000\0"), "is none"),
    "huge": (with_size(b"\x80" + b"\xff" * 11), "ends inside a member"),
    "no number": (with_size(b"zzzzzzzzzzz\0"), "is none"),
    "shifted": (with_size(b"00000002000\0"), "no member begins"),
    "no end": (tar({"a": b"b"})[:1024], "without the mark of its end"),
    "nothing": (b"", "without the mark of its end"),
    "after the end": (tar({"a": b"b"}) + b"x", "no member begins"),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_an_error(case: str) -> None:
    data, words = BAD[case]
    with pytest.raises(TarError, match=words):
        read(data)


def test_members_are_bounded() -> None:
    files = {str(number): b"" for number in range(20)}
    assert len(read(tar(files), max_members=20)) == 20
    with pytest.raises(TarError, match="more than 19 members"):
        read(tar(files), max_members=19)


class Endless(io.RawIOBase):
    """A stream that counts how much is read of it: a header, then zeros for ever."""

    def __init__(self, head: bytes) -> None:
        self.head, self.count = head, 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        data = self.head[self.count : self.count + size]
        self.count += size
        return data + bytes(size - len(data))


@pytest.mark.parametrize("head", [with_size(b"\x80" + b"\xff" * 11)[:512], b""])
def test_bytes_are_bounded(head: bytes) -> None:
    stream = Endless(head)
    with pytest.raises(TarError, match="more than 3,000,000 bytes when unpacked"):
        list(TarReader(stream, max_bytes=3_000_000, max_members=9))  # type: ignore[arg-type]
    assert stream.count < 3_100_000 + (1 << 20)


@given(data=st.binary(max_size=3000), position=st.integers(0, 600))
def test_any_bytes_are_read_or_refused(data: bytes, position: int) -> None:
    whole = tar({"a": b"content", "b": b"more"})
    for damaged in (data, whole[:position] + data + whole[position + len(data) :]):
        with contextlib.suppress(TarError):
            read(damaged)
