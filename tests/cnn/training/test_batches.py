"""What every source of batches must give, each compared with what was put into it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import PHOTO, Preprocessing, center_view, to_tensor
from cnn.training.batches import Batch, Batches
from cnn.training.hyperparameters import Augmentation, FromScratch, ImageStage
from cnn.training.pixels import PixelBatches
from cnn.training.records import RecordBatches

SPLITS = ("train", "validation")
PLAIN = Augmentation(min_random_scale=1, max_random_scale=1, rand_crop=False, rand_mirror=False)


@dataclass
class Source:
    """A way to make batches (size, seed, whether augmented), and what goes into them: inputs and labels by split.

    A source that ``pads`` fills its last training batch.
    """

    make: Callable[[int, int, bool], Batches]
    inputs: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.int64]]
    pads: bool = False

    def found(self, split: str, batches: Iterable[Batch]) -> list[int]:
        """Which inputs of a split the batches consist of; their labels must be right."""
        numbers = []
        for inputs, labels in batches:
            values = inputs.asnumpy()
            assert values.dtype == np.float32 and len(values) == len(labels)
            for value, label in zip(values, labels, strict=True):
                distances = np.abs(self.inputs[split] - value).mean(axis=(1, 2, 3))
                number = int(distances.argmin())
                assert distances[number] < 0.03 and self.labels[split][number] == label
                numbers.append(number)
        return numbers


def labels_of(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    return {split: dataset.ids_and_labels(split)[1] for split in SPLITS}


def middles(dataset: Dataset, preprocessing: Preprocessing) -> dict[str, NDArray[np.float32]]:
    """What a network sees of each image when nothing is augmented."""
    return {
        split: to_tensor([center_view(decode(row.data), preprocessing) for row in dataset.rows(split)], preprocessing)
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def record_source(drawn_dataset: Dataset, records: Path) -> Source:
    def make(size: int, seed: int, augmented: bool) -> Batches:
        stage = ImageStage(batch_size=size, augmentation=Augmentation() if augmented else PLAIN)
        return RecordBatches(drawn_dataset, records, stage, seed)

    return Source(make, middles(drawn_dataset, PHOTO), labels_of(drawn_dataset), pads=True)


@pytest.fixture(scope="module")
def pixel_source(drawn_dataset: Dataset, pixels: Path) -> Source:
    small = Preprocessing.whole(32)

    def make(size: int, seed: int, augmented: bool) -> Batches:
        changes = {"mirror": True, "shift": 4} if augmented else {}
        stage = FromScratch(architecture="alexnet", preprocessing=small, noise=0, batch_size=size, **changes)
        return PixelBatches(drawn_dataset, pixels, stage, seed)

    return Source(make, middles(drawn_dataset, small), labels_of(drawn_dataset))


@pytest.fixture(params=["record", "pixel"])
def source(request: pytest.FixtureRequest) -> Source:
    return request.getfixturevalue(f"{request.param}_source")


@pytest.mark.parametrize("size", [3, 7, 100])
def test_evaluation_gives_each_image_once_in_order(source: Source, size: int) -> None:
    batches = source.make(size, 0, True)
    for _ in range(2):
        validation = list(batches.evaluation("validation"))
        assert source.found("validation", validation) == list(range(8))
        assert max(len(labels) for _, labels in validation) == min(size, 8)
    assert source.found("train", batches.evaluation("train")) == list(range(16))


@pytest.mark.parametrize("size", [5, 16, 100])
def test_training_gives_each_input_once(source: Source, size: int) -> None:
    batches, count = source.make(size, 0, False), len(source.inputs["train"])
    trained = list(batches.training(1))
    size = min(size, count)
    assert len(trained) == batches.steps_per_epoch == (-(-count // size) if source.pads else count // size)
    assert {len(labels) for _, labels in trained} == {size}
    times = Counter(source.found("train", trained))
    if source.pads:
        assert times.keys() == set(range(count)) and times.total() == len(trained) * size
    else:
        assert set(times.values()) == {1} and times.total() == count - count % size


def test_order_depends_on_epoch_and_seed(source: Source) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return source.found("train", source.make(4, seed, False).training(epoch))

    first, second, other = order(0, 1), order(0, 2), order(1, 1)
    assert first == order(0, 1)
    assert len({tuple(each) for each in (first, second, other, sorted(first))}) == 4
    resumed = source.make(4, 0, False)
    list(resumed.training(1))
    assert source.found("train", resumed.training(2)) == second  # what came before does not count


def test_augmentation_is_new_each_epoch(source: Source) -> None:
    def inputs(seed: int, epoch: int) -> set[bytes]:
        batches = source.make(1, seed, True).training(epoch)
        return {value.tobytes() for each, _ in batches for value in each.asnumpy()}

    first, second, other = inputs(0, 1), inputs(0, 2), inputs(1, 1)
    assert first == inputs(0, 1) and len(first) == 16
    plain = {value.tobytes() for each, _ in source.make(4, 0, False).training(1) for value in each.asnumpy()}
    for different in (second, other, plain):
        assert len(first & different) < 4  # an image may happen to be changed in the same way
