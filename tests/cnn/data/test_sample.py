"""Drawn images: reproducible, varied, not separable by colour; shapes agree with their geometry."""

import io
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnn.data.images import Pixels
from cnn.data.sample import CLASSES, SIZE, Scene, capsule, draw, write_sample, zigzag


@pytest.fixture(scope="module")
def images() -> list[tuple[str, Pixels]]:
    """40 images of each class."""
    return [(label, draw(label, 3, index)) for index in range(40) for label in CLASSES]


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.mark.parametrize("label", CLASSES)
def test_image_is_rgb_and_not_blank(label: str) -> None:
    image = draw(label, seed=0, index=0)
    assert image.shape == (256, 256, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.std() > 5


def test_order_of_drawing_does_not_matter() -> None:
    forwards = [draw(label, 5, index) for label in CLASSES for index in range(3)]
    backwards = [draw(label, 5, index) for label in reversed(CLASSES) for index in reversed(range(3))]
    assert all(map(np.array_equal, forwards, reversed(backwards)))


def test_seed_index_and_class_matter() -> None:
    drawn = [draw("hotdog", 0, 0), draw("hotdog", 1, 0), draw("hotdog", 0, 1), draw("not_hotdog", 0, 0)]
    assert len({image.tobytes() for image in drawn}) == len(drawn)


def test_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        draw("taco", 0, 0)


def test_zip_depends_only_on_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed, now in (("a", 1, 1e9), ("b", 1, 2e9), ("c", 2, 1e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_sample(tmp_path / name, seed, count=6)
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other


def test_zip_has_equal_class_folders(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.zip", 0, count=10)
    names = names_in(tmp_path / "sample.zip")
    assert Counter(name.split("/")[0] for name in names) == dict.fromkeys(CLASSES, 5)
    assert names[:3] == ["hotdog/0000.jpg", "not_hotdog/0000.jpg", "hotdog/0001.jpg"]


def test_count_does_not_change_the_images(tmp_path: Path) -> None:
    write_sample(tmp_path / "few", 0, count=4)
    write_sample(tmp_path / "more", 0, count=8)
    with zipfile.ZipFile(tmp_path / "few") as few, zipfile.ZipFile(tmp_path / "more") as more:
        assert all(few.read(name) == more.read(name) for name in few.namelist())


def test_zip_holds_what_is_drawn(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.zip", 0, count=2)
    with zipfile.ZipFile(tmp_path / "sample.zip") as archive:
        decoded = Image.open(io.BytesIO(archive.read("not_hotdog/0000.jpg")))
    error = np.asarray(decoded, float) - draw("not_hotdog", 0, 0)
    assert decoded.format == "JPEG"
    assert np.sqrt((error**2).mean()) < 8


def test_mean_colour_does_not_separate_classes(images: list[tuple[str, Pixels]]) -> None:
    means = np.array([image.mean(axis=(0, 1)) for _, image in images])
    labels = [label for label, _ in images]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(model, means, labels, cv=5).mean() < 0.85


def test_brightness_varies(images: list[tuple[str, Pixels]]) -> None:
    brightness = [image.mean() for _, image in images]
    assert max(brightness) > 1.5 * min(brightness)


def test_capsule_is_a_distance() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 41, dtype=np.float32), np.linspace(-1, 1, 41, dtype=np.float32))
    along = np.linspace(-0.5, 0.5, 2001)
    middle = np.hypot(x[..., None] - along, y[..., None]).min(axis=-1)
    np.testing.assert_allclose(capsule(x, y, 1, 0.2), middle - 0.2, atol=1e-3)


def test_zigzag_is_a_distance() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 41, dtype=np.float32), np.linspace(-0.1, 0.1, 9, dtype=np.float32))
    along = np.linspace(-2, 2, 16001)
    line = 0.1 * (4 * abs(along / 0.4 % 1 - 0.5) - 1)
    nearest = np.hypot(x[..., None] - along, y[..., None] - line).min(axis=-1)
    np.testing.assert_allclose(zigzag(x, y, 9, 0.4, 0.1, 0.04), nearest - 0.02, atol=1e-3)


@pytest.mark.parametrize("offset", [0, 120, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 140, 400])
def test_shape_across_the_edge(offset: int) -> None:
    scene = Scene(np.random.default_rng(0))
    scene.place(1, 0, right=offset)
    scene.paint(capsule(scene.x, scene.y, 0, 3), np.ones((3, 1, 1), np.float32))
    assert np.isfinite(scene.pixels).all()
    assert scene.pixels.any() == (offset < SIZE / 2 + 3)
