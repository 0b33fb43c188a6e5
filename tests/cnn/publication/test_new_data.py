"""Images that a published version was not made from, compared with those that it was."""

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from candidates import edit, explained, photos  # noqa: F401  (fixtures)
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare
from cnn.publication import new_data
from cnn.publication.manifest import Manifest
from cnn.publication.new_data import find_drift, require_no_drift
from cnn.publication.records import IMAGES_FILE
from cnn.support.errors import UserError
from cnn.support.files import file_digest


def _mean_looks(dataset: Dataset) -> list[float]:
    """Mean grey value and mean shorter side of all images of a dataset, fully decoded."""
    images = [Image.open(io.BytesIO(row.data)) for split in dataset.splits for row in dataset.rows(split)]
    greys = [np.asarray(image.convert("L"), np.float64).mean() for image in images]
    return [float(np.mean(greys)), float(np.mean([min(image.size) for image in images]))]


def test_only_new_images_are_compared(
    explained: Path,
    drawn_dataset: Dataset,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = explained / "food" / "v0001"
    assert find_drift(drawn_dataset, version) is None
    near = Image.open(photos / "train" / "hotdog" / "0000.jpg")  # the only one that is not novel to the version
    near.putpixel((0, 0), (0, 0, 0))
    near.save(photos / "train" / "hotdog" / "near.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(photos / "validation" / "hotdog" / "noise.png")
    dataset = prepare(photos, tmp_path / "dataset")
    drift = find_drift(dataset, version)
    assert drift and drift.names == ("train/hotdog/near.png", "validation/hotdog/noise.png")
    assert drift.novel.tolist() == [False, True] and drift.share == 0.5
    assert drift.shares == {"hotdog": (0.5, 1), "not_hotdog": (0.5, 0)}
    assert [before for before, *_ in drift.looks.values()] == pytest.approx(_mean_looks(drawn_dataset), rel=0.01)
    require_no_drift(dataset, version, 0.5)
    words = r"max_drift 0\.4: .* food v0001 learnt from, found 1 of 2 .*, such as validation/hotdog/noise\.png: look"
    with pytest.raises(UserError, match=words):
        require_no_drift(dataset, version, 0.4)
    old = shutil.copytree(version.parent, tmp_path / "models" / "food") / version.name
    pq.write_table(pq.read_table(old / IMAGES_FILE).select(["id", "label", "split"]), old / IMAGES_FILE)
    edit(old, files=Manifest.open(old).files | {IMAGES_FILE: file_digest(old / IMAGES_FILE)})
    found = find_drift(dataset, old)
    assert found and not found.looks and found.p == drift.p
    monkeypatch.setattr(new_data, "load_version", lambda version: SimpleNamespace(novelty=None))
    require_no_drift(dataset, version, 0)  # as of a version that was published before this was kept
    assert "v0001: it does not say what it learnt from" in caplog.text
