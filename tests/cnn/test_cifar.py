"""CIFAR-10's binary batches, read by numpy as well, and everything that can be wrong with them."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cnn import cifar
from cnn.catalog import CIFAR10_BATCHES
from cnn.errors import UserError
from cnn.preparation import prepare
from cnn.sources import RawPicture, caveats, count_pictures, kind_of, read_pictures

Pixels = NDArray[np.uint8]
Files = dict[str, bytes]
PICTURES, RECORD = 20, 3073
OFFICIAL = tuple(CIFAR10_BATCHES)
TRAINING = OFFICIAL[:5]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(name: str) -> bytes:
    """Records of random pixels; every label twice."""
    chance = np.random.default_rng(list(name.encode()))
    labels = chance.permutation(np.arange(PICTURES, dtype=np.uint8) % 10)
    return np.column_stack([labels, chance.integers(0, 256, (PICTURES, RECORD - 1), np.uint8)]).tobytes()


BATCHES = {name: batch(name) for name in OFFICIAL}


@pytest.fixture(autouse=True)
def small_batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`BATCHES` are the official ones, except where the real ones are read."""
    if "shared" not in request.fixturenames:
        monkeypatch.setattr(cifar, "PICTURES", PICTURES)
        for name, data in BATCHES.items():
            monkeypatch.setitem(CIFAR10_BATCHES, name, hashlib.sha1(data).hexdigest())


def batches(*names: str) -> Files:
    return {name: BATCHES[name] for name in names}


def write_folder(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def tar(files: Files, *more: tarfile.TarInfo) -> bytes:
    """As the official archive: in a folder, in no order, beside other files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in [*reversed(files.items()), ("readme.html", b"<html>")]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return content.getvalue()


def as_folder(place: Path, files: Files) -> Path:
    return write_folder(place / "cifar", files | {"readme.html": b"<html>"})


def as_unpacked_archive(place: Path, files: Files) -> Path:
    write_folder(place / "cifar/cifar-10-batches-bin", files)
    return place / "cifar"


def as_archive(place: Path, files: Files) -> Path:
    path = place / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(tar(files)))
    return path


def as_tgz(place: Path, files: Files) -> Path:
    return as_archive(place, files).rename(place / "Copy of it.TGZ")


FORMS = [as_folder, as_unpacked_archive, as_archive, as_tgz]
Form = Callable[[Path, Files], Path]


def pixels(picture: RawPicture) -> Pixels:
    with Image.open(io.BytesIO(picture.data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
        return np.asarray(image)


def by_numpy(data: bytes) -> tuple[list[str], Pixels]:
    """Class names and pixels (n, 32, 32, 3) of a batch."""
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return [CLASSES[label] for label in records[:, 0]], records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# ---- what is read


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_numpy_reads(form: Form, tmp_path: Path) -> None:
    source = form(tmp_path, batches(*OFFICIAL))
    assert kind_of(source) == "cifar"
    before = sorted(tmp_path.rglob("*"))
    found = list(read_pictures(source))
    names = ["test_batch.bin", *TRAINING]
    assert [p.name for p in found] == [f"{name} picture {n}" for name in names for n in range(1, PICTURES + 1)]
    assert [p.split for p in found] == ["test"] * PICTURES + ["train"] * 5 * PICTURES
    for start, name in enumerate(names):
        labels, expected = by_numpy(BATCHES[name])
        part = found[start * PICTURES : (start + 1) * PICTURES]
        assert [p.label for p in part] == labels
        assert np.array_equal(np.stack([pixels(p) for p in part]), expected)
    assert count_pictures(source) == {(s, c): n for c in CLASSES for s, n in (("test", 2), ("train", 10))}
    assert caveats(source) == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_counting_encodes_nothing(tmp_path: Path) -> None:
    source = as_folder(tmp_path, batches(*OFFICIAL))
    assert not any(picture.data for picture in cifar.read_batches(source, load=False))


@pytest.mark.parametrize("form", [as_folder, as_archive])
@settings(max_examples=10, deadline=None)
@given(names=st.sets(st.sampled_from(OFFICIAL), min_size=1).filter(lambda names: names != {"test_batch.bin"}))
def test_one_batch_is_for_test_if_there_are_several(
    form: Form, names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = form(tmp_path_factory.mktemp("some"), batches(*names))
    splits = {picture.name.split()[0]: picture.split for picture in cifar.read_batches(source, load=False)}
    (said,) = caveats(source) or ("",)
    if len(names) == 1:
        assert splits == dict.fromkeys(names)
        assert said.startswith(f"The official test batch is not here: some pictures of {names.pop()} were held out")
    else:
        held_out = "test_batch.bin" if "test_batch.bin" in names else max(names)
        assert splits == {name: "test" if name == held_out else "train" for name in names}
        assert bool(said) == ("test_batch.bin" not in names)
        assert said.startswith(f"The official test batch is not here: {held_out} was held out") or not said


def test_other_sources_have_no_caveats(drawn: Path) -> None:
    assert caveats(drawn) == ()


def test_a_real_batch_is_what_its_picture_shows(shared: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared("cifar10")
    with Image.open(folder / "data_batch_1.webp") as image:
        grid = np.asarray(image.convert("RGB"))
    expected = grid.reshape(100, 32, 100, 32, 3).swapaxes(1, 2).reshape(10_000, 32, 32, 3)
    labels = np.load(folder / "labels.npy")[:10_000].astype(np.uint8)
    data = np.column_stack([labels, expected.transpose(0, 3, 1, 2).reshape(10_000, -1)]).tobytes()
    source = write_folder(tmp_path / "one", {"data_batch_1.bin": data})
    for picture, values, label in zip(islice(read_pictures(source), 2000), expected, labels, strict=False):
        assert picture.label == CLASSES[label]
        assert np.array_equal(pixels(picture), values)
    assert count_pictures(source) == {(None, name): n for name, n in zip(CLASSES, np.bincount(labels), strict=True)}


# ---- prepared


def test_a_held_out_batch_is_said_in_the_dataset(tmp_path: Path) -> None:
    source = as_folder(tmp_path, batches(*TRAINING))
    dataset = prepare(source, tmp_path / "dataset", validation_share=0.5)
    assert dataset.caveats == caveats(source)
    assert "data_batch_5.bin was held out from training in its place" in dataset.caveats[0]
    assert {name.split()[0] for name in dataset.names("test")} == {"data_batch_5.bin"}
    assert "50% of train became validation" in dataset.split
    assert 20 <= sum(dataset.counts["validation"].values()) <= 60  # 40 of 80 expected, standard deviation 4.5
    assert sum(sum(counts.values()) for counts in dataset.counts.values()) == 5 * PICTURES


def test_a_held_out_batch_that_validates_is_said_too(tmp_path: Path) -> None:
    source = as_folder(tmp_path, batches(*TRAINING))
    dataset = prepare(source, tmp_path / "dataset", second_part_validates=True)
    assert dataset.splits == ("train", "validation")
    assert {name.split()[0] for name in dataset.names("validation")} == {"data_batch_5.bin"}
    assert dataset.caveats[:-1] == caveats(source)
    assert "test pictures are what is called validation, and chose" in dataset.caveats[-1]


def test_the_official_split_needs_no_caveat(tmp_path: Path) -> None:
    dataset = prepare(as_archive(tmp_path, batches(*OFFICIAL)), tmp_path / "dataset", validation_share=0.5)
    assert dataset.caveats == ()
    assert {name.split()[0] for name in dataset.names("test")} == {"test_batch.bin"}


# ---- what is wrong


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


def require_sentence(source: Path, words: str) -> None:
    for read in (read_pictures, count_pictures):
        with pytest.raises(UserError, match=words) as error:
            list(read(source))
        message = str(error.value)
        assert message.startswith(f"{source}: expected ")
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize("form", [as_folder, as_archive])
@pytest.mark.parametrize("case", BAD_BATCHES)
def test_a_bad_batch_is_an_error(case: str, form: Form, tmp_path: Path) -> None:
    files, words = BAD_BATCHES[case]
    require_sentence(form(tmp_path, batches("data_batch_1.bin", "data_batch_3.bin") | files), words)


@pytest.mark.parametrize("form", [as_folder, as_archive])
def test_the_test_batch_alone_is_not_trained_on(form: Form, tmp_path: Path) -> None:
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
def test_an_archive_that_leads_out_of_itself_is_refused(case: str, tmp_path: Path) -> None:
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
def test_a_damaged_archive_is_an_error(case: str, tmp_path: Path) -> None:
    data, words = DAMAGED[case]
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(data)
    require_sentence(path, words)


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
        found = list(read_pictures(path))
    except UserError as error:
        assert str(path) in str(error)
    else:
        path.write_bytes(gzip.compress(WHOLE, 1))
        assert found == list(read_pictures(path))
