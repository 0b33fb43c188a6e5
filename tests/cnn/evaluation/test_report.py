"""The report of a checkpoint, against scikit-learn and inputs that Pillow and numpy make."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from without_figures import no_figures  # noqa: F401  (a fixture)

from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.evaluation import report
from cnn.evaluation.calibration import calibrate
from cnn.evaluation.report import Report, evaluate, read_predictions
from cnn.networks.architectures import NetworkConfig
from cnn.networks.running import initialise, parameters
from cnn.support.backend import mx
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from cnn.training.checkpoints import Checkpoint, checkpoint_file, load_checkpoint, save_checkpoint

HISTORY = tuple({"epoch": epoch, "validation_accuracy": 0.5, "validation_f1": 0.5} for epoch in range(2))


@pytest.fixture
def net(lenet: Callable[[int], Any]) -> Any:
    return initialise(lenet(2), 16, seed=3, initializer=mx.init.Normal(0.5))


@pytest.fixture
def checkpoint(net: Any, drawn_dataset: Dataset, tmp_path: Path) -> Path:
    config = NetworkConfig(architecture="lenet", preprocessing=Preprocessing.whole(16))
    trained = Checkpoint(config, drawn_dataset.classes, parameters(net), HISTORY, kept=1)
    save_checkpoint(tmp_path / "checkpoint", trained)
    return tmp_path / "checkpoint"


def outputs(net: Any, dataset: Dataset, split: str) -> np.ndarray:
    """What a network gives for the images of a split, squeezed to 16 × 16 px."""
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    images = [
        Image.open(io.BytesIO(row.data)).resize((16, 16), Image.Resampling.BILINEAR) for row in dataset.rows(split)
    ]
    values = [(np.asarray(image) / np.float32(255) - mean) / std for image in images]
    return net(mx.nd.array(np.stack(values).transpose(0, 3, 1, 2))).asnumpy()


def test_metrics_are_scikit_learns(net: Any, checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path) -> None:
    found = evaluate(checkpoint, drawn_dataset, tmp_path / "report", positive="not_hotdog")
    assert set(found.metrics) == set(found.confusion) == {"validation", "test"}
    for split, metrics in found.metrics.items():
        labels, predicted = drawn_dataset.ids_and_labels(split)[1], outputs(net, drawn_dataset, split).argmax(1)
        assert metrics.images == 8
        assert metrics.accuracy == accuracy_score(labels, predicted)
        assert metrics.f1 == pytest.approx(f1_score(labels, predicted, pos_label=1, zero_division=0))
        assert found.confusion[split] == confusion_matrix(labels, predicted, labels=[0, 1]).tolist()


def test_report_holds_everything(net: Any, checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path) -> None:
    dataset, folder = drawn_dataset.model_copy(update={"caveats": ("Mind the gap.",)}), tmp_path / "report"
    found = evaluate(checkpoint, dataset, folder)
    assert Report.open(folder) == found
    assert found.caveats == ("Mind the gap.",) and found.positive == "hotdog"
    assert found.checkpoint == file_digest(checkpoint_file(checkpoint))
    assert found.parameters == sum(parameter.data().size for parameter in net.collect_params().values())
    assert pq.read_table(folder / "history.parquet").to_pylist() == list(HISTORY)
    for split in ("validation", "test"):
        rows = pq.read_table(folder / f"predictions-{split}.parquet").to_pylist()
        powers = np.exp(outputs(net, dataset, split) / found.calibration.temperature)
        shares = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose([[row[f"p({name})"] for name in dataset.classes] for row in rows], shares, atol=1e-4)
        labels = [dataset.classes[label] for label in dataset.ids_and_labels(split)[1]]
        assert [row["label"] for row in rows] == labels and [row["image"] for row in rows] == dataset.names(split)
        assert [row["prediction"] for row in rows] == [dataset.classes[index] for index in shares.argmax(1)]
    assert not found.outlook
    for figure in ("curves", "confusion", "examples"):
        assert min(Image.open(folder / f"{figure}.png", formats=["PNG"]).size) > 100


def test_curves_are_of_the_checkpoint(
    checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def epoch_curves(*arguments: Any) -> Figure:
        drawn.append(arguments)
        return Figure()

    monkeypatch.setattr(report, "epoch_curves", epoch_curves)
    evaluate(checkpoint, drawn_dataset, tmp_path / "report")
    assert drawn == [(HISTORY, 1)]


def solved(checkpoint: Path, dataset: Dataset, *splits: str) -> tuple[Any, Any]:
    """Turn a checkpoint into one of a head that was solved on some splits; its held-out probabilities and labels."""
    ids, labels = zip(*(dataset.ids_and_labels(split) for split in splits), strict=True)
    probabilities = np.random.default_rng(0).dirichlet((1, 1), sum(map(len, ids))).astype(np.float32)
    confusion = [[6, 2], [2, 6]]
    changes: dict[str, Any] = {
        "history": (), "timings": (), "kept": 0, "strength": 0.1,
        "path": ({"strength": 0.1, "log_loss": 0.5, "log_loss_error": 0.1, "confusion": confusion},),
        "learning_curve": tuple({"images": images, "confusion": confusion} for images in (5, 10, 20)),
        "held_out": {"ids": np.concatenate(ids), "probabilities": probabilities},
    }  # fmt: skip
    save_checkpoint(checkpoint, replace(load_checkpoint(checkpoint), **changes))
    return probabilities, np.concatenate(labels)


def test_very_many_images_are_not_audited(
    checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(report, "_MOST_AUDITED", 31)
    evaluate(checkpoint, drawn_dataset, tmp_path / "report", features=tmp_path / "features")
    assert not (tmp_path / "report" / "duplicates.parquet").exists()
    assert "Not audited: 32 images are more than 31" in caplog.text


def test_solved_head_is_judged_by_its_held_out_predictions(
    checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    probabilities, labels = solved(checkpoint, drawn_dataset, "train", "validation")
    found = evaluate(checkpoint, drawn_dataset, folder)
    assert list(found.metrics) == list(found.confusion) == ["cross-validation", "test"]
    predicted = probabilities.argmax(1)
    assert found.metrics["cross-validation"].images == 24
    assert found.metrics["cross-validation"].f1 == pytest.approx(f1_score(labels, predicted, pos_label=0))
    assert found.confusion["cross-validation"] == confusion_matrix(labels, predicted).tolist()
    rows = pq.read_table(folder / "predictions-cross-validation.parquet").to_pylist()
    np.testing.assert_allclose(
        [row["p(hotdog)"] for row in rows], found.calibration.apply(probabilities)[:, 0], rtol=1e-6
    )
    assert found.calibration == calibrate(labels, probabilities, 0)
    assert [row["image"] for row in rows] == drawn_dataset.names("train") + drawn_dataset.names("validation")
    assert "more images would help" in found.outlook
    names = {file.name for file in folder.iterdir()}
    assert {"regularisation.png", "learning_curve.png", "confusion.png", "examples.png"} <= names
    assert not names & {"curves.png", "history.parquet", "predictions-validation.parquet"}


def test_kept_validation_images_are_predicted(checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path) -> None:
    probabilities, labels = solved(checkpoint, drawn_dataset, "train")
    found = evaluate(checkpoint, drawn_dataset, tmp_path / "report")
    assert list(found.metrics) == ["validation", "test"]
    assert found.calibration == calibrate(labels, probabilities, 0)


@pytest.mark.parametrize("solve", [False, True])
def test_threshold_is_chosen_without_test(
    net: Any, checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path, solve: bool
) -> None:
    if solve:
        probabilities, labels = solved(checkpoint, drawn_dataset, "train", "validation")
    else:
        powers = np.exp(outputs(net, drawn_dataset, "validation"))
        probabilities, labels = powers / powers.sum(1, keepdims=True), drawn_dataset.ids_and_labels("validation")[1]
    found = evaluate(checkpoint, drawn_dataset, tmp_path / "report", threshold="recall:0.9")
    expected = calibrate(labels, probabilities, 0, "recall:0.9")
    assert found.calibration.threshold == pytest.approx(expected.threshold, abs=1e-3)
    for split, confusion in found.confusion.items():
        rows = pq.read_table(tmp_path / "report" / f"predictions-{split}.parquet").to_pylist()
        predicted = ["hotdog" if row["p(hotdog)"] >= found.calibration.threshold else "not_hotdog" for row in rows]
        assert [row["prediction"] for row in rows] == predicted
        labels = [row["label"] for row in rows]
        assert confusion == confusion_matrix(labels, predicted, labels=drawn_dataset.classes).tolist()
        assert found.metrics[split].f1 == f1_score(labels, predicted, pos_label="hotdog", zero_division=0)
    again = read_predictions(tmp_path / "report", "test", drawn_dataset.classes)
    assert again.confusion.tolist() == found.confusion["test"]


def test_impossible_settings_are_refused(checkpoint: Path, drawn_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'cow': there is no such class; choose one of hotdog, not_hotdog"):
        evaluate(checkpoint, drawn_dataset, tmp_path / "report", positive="cow")
    with pytest.raises(UserError, match="threshold f1: a threshold needs two classes, and there are 3"):
        three = drawn_dataset.model_copy(update={"classes": ("a", "b", "c")})
        evaluate(checkpoint, three, tmp_path / "report", threshold="f1")
    assert not (tmp_path / "report").exists()
