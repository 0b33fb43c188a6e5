"""A published network in integers, against the one of full precision and scikit-learn's F1."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from candidates import EPOCH, SMALL, Made, as_candidate
from sklearn.metrics import f1_score

from cnn import Predictor
from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.networks.initializers import random_parameters
from cnn.publication import integers
from cnn.publication.manifest import Manifest
from cnn.publication.versions import is_intact
from cnn.support.errors import UserError
from cnn.training.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def candidate(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A network of random features that answers either way."""
    values = random_parameters(seed=0)
    values["output.0.weight"] = np.random.default_rng(1).normal(0, 0.5, (2, 512, 1, 1)).astype(np.float32)
    values["output.0.bias"] = np.array([50, 50], np.float32)  # a ReLU follows
    network = SMALL.model_copy(update={"mirrored_mean": True})
    trained = Checkpoint(network, drawn_dataset.classes, values, (EPOCH,))
    return as_candidate(tmp_path_factory.mktemp("integers"), drawn_dataset, trained)


def test_integers_answer_nearly_alike(candidate: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integers, "MOST_LOST", 1.0)  # eight images may all be answered otherwise
    version = candidate.publish(tmp_path / "models", int8=True)
    found = Manifest.open(version).integers
    assert found and found.kept and is_intact(version)
    kinds = [node.op_type for node in onnx.load(version / "squeezenet-int8.onnx").graph.node]
    assert kinds.count("QuantizeLinear") > 26 and found.bytes < (version / "squeezenet.onnx").stat().st_size / 3

    rows = [row for split in ("train", "validation") for row in candidate.dataset.rows(split)]
    assert found.images == len(rows)
    full, small = Predictor(version), Predictor(version, int8=True)
    answers = [[each.predict(decode(row.data)) for row in rows] for each in (full, small)]
    probabilities = np.array([[answer.probabilities for answer in each] for each in answers])
    assert 0 < np.abs(probabilities[0] - probabilities[1]).max() < 0.3
    labels = [row.label == 0 for row in rows]
    for f1, each in zip((found.full_f1, found.f1), answers, strict=True):
        assert f1 == pytest.approx(f1_score(labels, [answer.predicted == 0 for answer in each]))


def test_integers_that_answer_worse_are_not_kept(
    candidate: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integers, "MOST_LOST", -1.1)  # not even a better one
    version = candidate.publish(tmp_path / "models", int8=True)
    found = Manifest.open(version).integers
    assert found and not found.kept and not (version / "squeezenet-int8.onnx").exists() and is_intact(version)
    with pytest.raises(UserError, match=r"it has no squeezenet-int8\.onnx, as its F1 was lower"):
        Predictor(version, int8=True)


def test_integers_that_are_asked_for_later_are_a_new_version(candidate: Made, tmp_path: Path) -> None:
    first, again = (candidate.publish(tmp_path / "models") for _ in range(2))
    assert first == again and Manifest.open(first).integers is None
    names = [candidate.publish(tmp_path / "models", int8=True).name for _ in range(2)]
    assert names == ["v0002", "v0002"]
