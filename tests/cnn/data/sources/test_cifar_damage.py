"""Everything that can be wrong with CIFAR-10's binary batches."""

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from cifar_batches import (
    BATCHES,
    IMAGES,
    RECORD,
    TRAINING,
    Form,
    as_archive,
    as_folder,
    batches,
    small_batches,  # noqa: F401
    tar,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writers import Files

from cnn.data.sources import Source, cifar, open_source
from cnn.support.errors import UserError


def with_byte(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


FIRST = BATCHES["data_batch_1.bin"]
BAD_BATCHES: dict[str, tuple[Files, str]] = {
    "short": (
        {"data_batch_1.bin": FIRST[:-1]},
        r"expected data_batch_1\.bin of 61,460 bytes, found 61,459: ",
    ),
    "long": ({"test_batch.bin": FIRST + b"\0"}, r"expected test_batch\.bin of 61,460 bytes, found 61,461: "),
    "empty": ({"data_batch_2.bin": b""}, r"expected data_batch_2\.bin of 61,460 bytes, found 0: "),
    "label": (
        {"data_batch_1.bin": with_byte(FIRST, 6 * RECORD, 10)},
        r"expected labels 0…9 in data_batch_1\.bin, found 10 in record 7: ",
    ),
    "digest": (
        {"data_batch_1.bin": with_byte(FIRST, 100, FIRST[100] ^ 1)},
        r"expected data_batch_1\.bin with SHA-1 [0-9a-f]{40}, found [0-9a-f]{40}: ",
    ),
    "another's name": ({"data_batch_2.bin": FIRST}, r"expected data_batch_2\.bin with SHA-1 "),
    "unknown": ({"data_batch_7.bin": FIRST}, r"found 'data_batch_7\.bin': "),
    "copy": ({"test_batch (1).bin": FIRST}, r"found 'test_batch \(1\)\.bin': "),
    "not in UTF-8": ({"data_batch_\udce9.bin": FIRST}, r"found 'data_batch_\\udce9\.bin': "),
}


def require_sentence(path: Path, words: str) -> None:
    for read in (Source.images, Source.counts, Source.caveats):
        with pytest.raises(UserError, match=words) as error:
            list(read(open_source(path)))
        message = str(error.value)
        assert message.startswith(f"{path}: expected ")
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize("form", [as_folder, as_archive])
@pytest.mark.parametrize("case", BAD_BATCHES)
def test_a_bad_batch_is_refused(case: str, form: Form, tmp_path: Path) -> None:
    files, words = BAD_BATCHES[case]
    require_sentence(form(tmp_path, batches("data_batch_1.bin", "data_batch_3.bin") | files), words)


@pytest.mark.parametrize("form", [as_folder, as_archive])
def test_a_lone_test_batch_is_refused(form: Form, tmp_path: Path) -> None:
    require_sentence(form(tmp_path, batches("test_batch.bin")), r"found only test_batch\.bin: add data_batch_1\.bin")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 10 if kind == tarfile.REGTYPE else 0
    return info


HARMFUL: dict[str, tuple[tarfile.TarInfo, str]] = {
    "up": (member("../evil.txt"), r"found '\.\./evil\.txt', whose path leads out"),
    "up from inside": (member("a/../../evil.txt"), r"found 'a/\.\./\.\./evil\.txt', whose path leads out"),
    "absolute": (member("/etc/evil"), r"found '/etc/evil', whose path leads out"),
    "folder above": (member("..", tarfile.DIRTYPE), r"found '\.\.', whose path leads out"),
    "symbolic link": (
        member("a/data_batch_2.bin", tarfile.SYMTYPE, "/etc/passwd"),
        r"found 'a/data_batch_2\.bin', which is a link or a device",
    ),
    "hard link": (member("b", tarfile.LNKTYPE, "/etc/passwd"), "found 'b', which is a link or a device"),
    "device": (member("c", tarfile.CHRTYPE), "found 'c', which is a link or a device"),
    "pipe": (member("d", tarfile.FIFOTYPE), "found 'd', which is a link or a device"),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_a_harmful_archive_is_refused(case: str, tmp_path: Path) -> None:
    info, words = HARMFUL[case]
    path = tmp_path / "x/cifar.tar.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(tar(batches(*TRAINING), info)))
    require_sentence(path, words)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


WHOLE = tar(batches("data_batch_1.bin", "data_batch_2.bin"))
HEADER = WHOLE.index(b"cifar-10-batches-bin/data_batch_1.bin")
DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "a whole .tar.gz file, found damage"),
    "text": (b"text", "a whole .tar.gz file, found damage"),
    "not compressed": (WHOLE, "a whole .tar.gz file, found damage"),
    "not a tar": (gzip.compress(b"text"), "a whole .tar.gz file, found damage"),
    "cut": (gzip.compress(WHOLE)[:60_000], "a whole .tar.gz file, found damage"),
    "cut at its checksum": (gzip.compress(WHOLE)[:-8], "a whole .tar.gz file, found damage"),
    "cut inside": (gzip.compress(WHOLE[:50_000]), "a whole .tar.gz file, found damage"),
    "damaged header": (gzip.compress(with_byte(WHOLE, HEADER, 0)), "found damage .no member begins where one"),
    "no batches": (gzip.compress(tar({"data_batch_1": FIRST})), "binary batches, .* found none: "),
    "no files": (gzip.compress(bytes(10_240)), "binary batches, .* found none: "),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_archive_is_refused(case: str, tmp_path: Path) -> None:
    data, words = DAMAGED[case]
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(data)
    require_sentence(path, words)


def test_a_pipe_named_as_a_batch_is_not_opened(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, batches("data_batch_1.bin", "test_batch.bin"))
    os.mkfifo(folder / "data_batch_2.bin")
    assert open_source(folder).counts().total() == 2 * IMAGES


def test_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(WHOLE + bytes(4 << 20)))
    assert open_source(path).counts().total() == 2 * IMAGES
    monkeypatch.setattr(cifar, "_MAX_UNPACKED", 4 << 20)
    require_sentence(path, "found damage .more than 4,194,304 bytes when unpacked")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), is_inside=st.booleans(), in_header=st.booleans()
)
def test_a_damaged_byte_is_noticed_or_harmless(
    where: float, bits: int, is_inside: bool, in_header: bool, tmp_path: Path
) -> None:
    data = WHOLE if is_inside else gzip.compress(WHOLE, 1, mtime=0)
    start, size = (HEADER if is_inside else 0, 512) if in_header else (0, len(data))
    position = start + int(where * size)
    damaged = with_byte(data, position, data[position] ^ bits)
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(damaged, 1) if is_inside else damaged)
    try:
        found = list(open_source(path).images())
    except UserError as error:
        assert str(path) in str(error)
    else:
        path.write_bytes(gzip.compress(WHOLE, 1))
        assert found == list(open_source(path).images())
