"""Small images as arrays: packed whole, moved and mirrored as their stage says."""

from pathlib import Path

import numpy as np
import pytest

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, center_view, scale
from cnn.training.hyperparameters import FromScratch
from cnn.training.pixels import PixelBatches, pack_pixels

PLAIN = FromScratch(architecture="alexnet", preprocessing=Preprocessing.whole(32), noise=0, batch_size=16)


@pytest.mark.parametrize("preprocessing", [Preprocessing.whole(20), Preprocessing(short_side=24, crop=16)], ids=str)
def test_middles_are_packed(preprocessing: Preprocessing, drawn_dataset: Dataset, tmp_path: Path) -> None:
    pack_pixels(drawn_dataset, preprocessing, tmp_path / "packed")
    for split in ("train", "validation"):
        packed = np.load(tmp_path / "packed" / f"{split}.npy")
        assert packed.dtype == np.uint8
        images = np.array(
            [np.asarray(center_view(decode(row.data), preprocessing)) for row in drawn_dataset.rows(split)]
        )
        np.testing.assert_array_equal(packed, np.moveaxis(images, 3, 1))


@pytest.mark.parametrize(("shift", "mirror"), [(1, True), (2, False), (0, True)])
def test_training_images_are_moved_and_mirrored(shift: int, mirror: bool, drawn_dataset: Dataset, pixels: Path) -> None:
    batches = PixelBatches(drawn_dataset, pixels, PLAIN.replace(shift=shift, mirror=mirror), seed=0)
    images = np.load(pixels / "train.npy")
    padded = np.pad(images, ((0, 0), (0, 0), (shift, shift), (shift, shift)), "reflect")
    distances = range(2 * shift + 1)
    windows = {
        scale(each[None]).tobytes(): (number, down, right, turned)
        for down in distances
        for right in distances
        for number, window in enumerate(padded[:, :, down : down + 32, right : right + 32])
        for turned, each in enumerate((window, window[..., ::-1]))
    }
    found = [windows[image.tobytes()] for epoch in range(4) for image in next(batches.training(epoch))[0].asnumpy()]
    numbers, *changes = (set(each) for each in zip(*found, strict=True))
    assert numbers == set(range(16))
    assert changes == [set(distances), set(distances), {0, 1} if mirror else {0}]


def test_examples_are_plain_training_images(drawn_dataset: Dataset, pixels: Path) -> None:
    batches = PixelBatches(drawn_dataset, pixels, PLAIN.replace(shift=3, mirror=True), seed=0)
    np.testing.assert_array_equal(batches.examples(), scale(np.load(pixels / "train.npy")))


def test_noise_depends_on_the_seed(drawn_dataset: Dataset, pixels: Path) -> None:
    stage = PLAIN.replace(preprocessing=Preprocessing.whole(32, stretched=True), noise=0.01)
    plain, first, again, other = (
        PixelBatches(drawn_dataset, pixels, each, seed).examples()
        for each, seed in ((stage.replace(noise=0), 0), (stage, 0), (stage, 0), (stage, 1))
    )
    np.testing.assert_array_equal(first, again)
    noise = np.stack([first - plain, other - plain]).reshape(2, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05 and noise.std() == pytest.approx(0.01, rel=0.1)
