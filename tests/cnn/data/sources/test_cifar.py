"""CIFAR-10's binary batches, read by numpy as well."""

import io
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cifar_batches import (
    BATCHES,
    FORMS,
    IMAGES,
    OFFICIAL,
    RECORD,
    TRAINING,
    Form,
    as_archive,
    as_folder,
    batches,
    small_batches,  # noqa: F401
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from writers import write_folder

from cnn.data.preparation import prepare
from cnn.data.sources import SourceImage, open_source
from cnn.data.sources.cifar import CifarSource
from cnn.support.errors import UserError

Pixels = NDArray[np.uint8]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(encoded: SourceImage) -> Pixels:
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
        return np.asarray(image)


def by_numpy(data: bytes) -> tuple[list[str], Pixels]:
    """Class names and pixels (n, 32, 32, 3) of a batch."""
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return [CLASSES[label] for label in records[:, 0]], records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# ---- what is read


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_numpy_reads(form: Form, tmp_path: Path) -> None:
    source = open_source(form(tmp_path, batches(*OFFICIAL)))
    assert isinstance(source, CifarSource)
    before = sorted(tmp_path.rglob("*"))
    found = list(source.images())
    names = ["test_batch.bin", *TRAINING]
    assert [p.name for p in found] == [f"{name} image {n}" for name in names for n in range(1, IMAGES + 1)]
    assert [p.split for p in found] == ["test"] * IMAGES + ["train"] * 5 * IMAGES
    for start, name in enumerate(names):
        labels, expected = by_numpy(BATCHES[name])
        part = found[start * IMAGES : (start + 1) * IMAGES]
        assert [p.label for p in part] == labels
        assert np.array_equal(np.stack([pixels(p) for p in part]), expected)
    assert source.counts() == {(s, c): n for c in CLASSES for s, n in (("test", 2), ("train", 10))}
    assert source.caveats() == ()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", FORMS)
def test_batches_are_read_once(form: Form, tmp_path: Path) -> None:
    source = open_source(form(tmp_path, batches(*TRAINING)))
    caveats, counts = source.caveats(), source.counts()
    source.path.rename(tmp_path / "moved")
    assert Counter((image.split, image.label) for image in source.images()) == counts
    assert source.caveats() == caveats
    with pytest.raises(UserError):  # the batches have been released
        list(source.images())


def test_counting_encodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(as_folder(tmp_path, batches(*OFFICIAL)))
    monkeypatch.delattr(Image, "merge")
    assert source.counts().total() == 6 * IMAGES
    with pytest.raises(AttributeError):
        list(source.images())


@pytest.mark.parametrize("form", [as_folder, as_archive])
@settings(max_examples=10, deadline=None)
@given(names=st.sets(st.sampled_from(OFFICIAL), min_size=1).filter(lambda names: names != {"test_batch.bin"}))
def test_one_of_several_batches_is_for_test(
    form: Form, names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = open_source(form(tmp_path_factory.mktemp("some"), batches(*names)))
    splits = {image.name.split()[0]: image.split for image in source.images()}
    (caveat,) = source.caveats() or ("",)
    if len(names) == 1:
        assert splits == dict.fromkeys(names)
        assert caveat.startswith(f"The official test batch is missing: some images of {names.pop()} were held out")
    else:
        held_out = "test_batch.bin" if "test_batch.bin" in names else max(names)
        assert splits == {name: "test" if name == held_out else "train" for name in names}
        assert bool(caveat) == ("test_batch.bin" not in names)
        assert caveat.startswith(f"The official test batch is missing: {held_out} was held out") or not caveat


def test_a_real_batch_is_what_its_image_shows(shared: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared("cifar10")
    with Image.open(folder / "data_batch_1.webp") as real:
        grid = np.asarray(real.convert("RGB"))
    expected = grid.reshape(100, 32, 100, 32, 3).swapaxes(1, 2).reshape(10_000, 32, 32, 3)
    labels = np.load(folder / "labels.npy")[:10_000].astype(np.uint8)
    data = np.column_stack([labels, expected.transpose(0, 3, 1, 2).reshape(10_000, -1)]).tobytes()
    source = open_source(write_folder(tmp_path / "one", {"data_batch_1.bin": data}))
    for image, values, label in zip(islice(source.images(), 2000), expected, labels, strict=False):
        assert image.label == CLASSES[label]
        assert np.array_equal(pixels(image), values)
    assert source.counts() == {(None, name): n for name, n in zip(CLASSES, np.bincount(labels), strict=True)}


# ---- prepared


def test_a_held_out_batch_is_a_caveat(tmp_path: Path) -> None:
    source = open_source(as_folder(tmp_path, batches(*TRAINING)))
    dataset = prepare(source, tmp_path / "dataset", validation_share=0.5)
    assert dataset.caveats == source.caveats()
    assert "data_batch_5.bin was held out from training in its place" in dataset.caveats[0]
    assert {name.split()[0] for name in dataset.names("test")} == {"data_batch_5.bin"}
    assert "50% of train became validation" in dataset.split_origin
    assert 20 <= sum(dataset.counts["validation"].values()) <= 60  # 40 of 80 expected, standard deviation 4.5
    assert sum(sum(counts.values()) for counts in dataset.counts.values()) == 5 * IMAGES


def test_a_held_out_batch_can_validate(tmp_path: Path) -> None:
    source = open_source(as_folder(tmp_path, batches(*TRAINING)))
    dataset = prepare(source, tmp_path / "dataset", test_as_validation=True)
    assert dataset.splits == ("train", "validation")
    assert {name.split()[0] for name in dataset.names("validation")} == {"data_batch_5.bin"}
    assert dataset.caveats[:-1] == source.caveats()
    assert "test images served as validation" in dataset.caveats[-1]


def test_the_official_split_needs_no_caveat(tmp_path: Path) -> None:
    dataset = prepare(as_archive(tmp_path, batches(*OFFICIAL)), tmp_path / "dataset", validation_share=0.5)
    assert dataset.caveats == ()
    assert {name.split()[0] for name in dataset.names("test")} == {"test_batch.bin"}
