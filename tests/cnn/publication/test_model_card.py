"""What people read of a version: its card, the summary at the end of a run, rows of tables."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from candidates import Made, make_candidate

from cnn.data.datasets import Dataset
from cnn.data.images import PHOTO, Preprocessing
from cnn.evaluation.answers import Calibration
from cnn.evaluation.comparison import Comparison, ComparisonRow
from cnn.evaluation.metrics import Metrics
from cnn.networks.architectures import NetworkConfig
from cnn.publication.champions import promote
from cnn.publication.manifest import Lineage, Manifest, WeightsOrigin
from cnn.publication.model_card import history_rows, metrics_rows, model_card, summary
from cnn.support.references import Reference
from cnn.training.hyperparameters import HeadStage, ImageStage
from cnn.training.recipes import hotdog_recipe

NOTE = "Trained on drawings and not on photos."


@pytest.fixture(scope="module")
def candidate(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_candidate(tmp_path_factory.mktemp("candidate"), drawn_dataset, 0).with_lineage(notes=(NOTE,))


@pytest.fixture(scope="module")
def manifest(candidate: Made, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.open(candidate.publish(tmp_path_factory.mktemp("models")))


def change(manifest: Manifest, **changes: object) -> Manifest:
    return Manifest(**dict(manifest) | changes)


def test_card_says_what_the_manifest_says(manifest: Manifest) -> None:
    card = model_card(manifest, None)
    for part in (
        "# food v0001", f"> {NOTE}", "Network `squeezenet` that distinguishes: hotdog, not_hotdog.",
        "|  | validation | test |", "| images | 8 | 8 |",
        "| recall | 1.000 (1.000 to 1.000) | 1.000 (1.000 to 1.000) |",
        "of the class hotdog", "The most probable class is predicted.",
        "| not_hotdog | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) |", "| mean | 0.250 (",
        f"after division by {manifest.calibration.temperature:g}, is the calibrated probability",
        f"**Champion:** yes. {manifest.reason}", "train: 8 hotdog, 8 not_hotdog", "Recipe `tuned`, random seed 0",
        "resized to 32 px, the middle 32 × 32 px, RGB, /255, mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]",
    ):  # fmt: skip
        assert part in card
    assert "no test" not in card and "model_zoo" not in card


def test_card_says_what_differs(manifest: Manifest) -> None:
    untested = change(manifest, metrics={"validation": manifest.metrics["validation"]}, positive=None, promoted=False)
    card = model_card(untested, None)
    assert "no test split" in card and "means over all classes" in card and "**Champion:** no." in card
    photo = model_card(change(manifest, network=NetworkConfig(architecture="squeezenet", preprocessing=PHOTO)), None)
    assert "`gluon.model_zoo.vision.squeezenet1_1(classes=2)`" in photo and "the middle 224 × 224 px" in photo
    stretched = Preprocessing.whole(32, stretched=True)
    mirrored = NetworkConfig(architecture="vgg", preprocessing=stretched, mirrored_mean=True)
    card = model_card(change(manifest, network=mirrored), None)
    assert "stretched to 0…1" in card and "with the `.params` alone, run the network on both" in card


def test_card_says_what_was_chosen_by_what(manifest: Manifest) -> None:
    def said(stage: Any, *splits: str) -> str:
        metrics = dict.fromkeys(splits, manifest.metrics["test"])
        lineage = manifest.lineage.model_copy(update={"stages": (stage,)})
        return model_card(change(manifest, metrics=metrics, lineage=lineage, outlook="More would help."), None)

    solved, trained = (stage.model_dump(mode="json") for stage in (HeadStage(), ImageStage()))
    assert "The head was solved on all images but those of test" in said(solved, "cross-validation", "test")
    assert "The head was solved on the training images" in said(solved, "validation")
    card = said(trained, "validation", "test")
    assert "Epoch and network were chosen on validation. More would help." in card and "solved" not in card


def test_card_compares_architectures(manifest: Manifest) -> None:
    figures = {name: 0.5 for name, field in ComparisonRow.model_fields.items() if field.annotation is float}
    row = ComparisonRow(**figures | {"architecture": "vgg", "parameters": 1_234})
    compared = Comparison(best="vgg", split="test", caveats=(), rows=(row,))
    assert "| vgg | 50.0 % | 50.0 % | 50.0–50.0 % | 1,234 |" in model_card(manifest, compared)


def test_lineage_repeats_all_notes(drawn_dataset: Dataset, weights_file: Path) -> None:
    dataset = drawn_dataset.model_copy(update={"caveats": ("Of the data.",)})
    weights = Reference.to(weights_file, notes=("Of the weights.",), licence="BSD-2-Clause")
    found = Lineage.of(dataset, hotdog_recipe(), source="drawn", weights=weights, seed=3, notes=("Of the source.",))
    assert found.notes == ("Of the source.", "Of the weights.", "Of the data.")
    assert found.weights == WeightsOrigin(source="weights.npz", digest=weights.digest, licence="BSD-2-Clause")
    assert (found.data.digest, found.data.counts) == (dataset.digest(), dataset.counts)
    assert (found.recipe, found.seed, found.device, found.chosen_by) == ("tuned", 3, "cpu(0)", "f1")


def test_card_names_the_licences(manifest: Manifest) -> None:
    assert "Licence" not in model_card(manifest, None)
    data = manifest.lineage.data.model_copy(update={"licence": "not stated"})
    weights = WeightsOrigin(source="a.onnx", digest="0" * 64, licence="Apache-2.0")
    lineage = manifest.lineage.model_copy(update={"data": data, "weights": weights})
    card = model_card(change(manifest, lineage=lineage), None)
    assert "). Licence: not stated. " in card and "`0000000000000000…`. Licence: Apache-2.0.\n" in card


def test_summary_says_whether_it_is_the_champion(candidate: Made, tmp_path: Path) -> None:
    first = candidate.publish(tmp_path)
    said = summary(first)
    assert "food v0001 is the champion. There was no champion to compare with." in said
    assert f"Model: {first}" in said and NOTE in said and "no test" not in said
    assert f"Open in a browser: {first}/report.html" in said
    assert said.splitlines()[1].split() == ["validation", "test"]
    second = shutil.copytree(first, tmp_path / "food" / "v0002")
    manifest = Manifest.open(second)
    change(manifest, version="v0002", promoted=False).save(second)
    assert "food v0002 is not the champion." in summary(second)
    promote(second)
    assert "food v0002 has become the champion since." in summary(second)
    assert "food v0001 is no longer the champion: v0002 is." in summary(first)
    (tmp_path / "food" / "champion.json").write_text("{")
    assert "food v0001 is no longer the champion: there is none." in summary(first)
    (tmp_path / "food" / "champion.json").unlink()
    assert "food v0002 is not the champion." in summary(second)


def test_rows_are_for_people(candidate: Made, tmp_path: Path) -> None:
    version = candidate.publish(tmp_path)
    rows = {row[""]: row for row in metrics_rows(Manifest.open(version).metrics)}
    assert rows["accuracy"] == {
        "": "accuracy",
        "validation": "0.500 (0.500 to 0.500)",
        "test": "0.500 (0.500 to 0.500)",
    }
    older = {"test": Metrics(accuracy=0.5, precision=0.5, recall=0.5, f1=0.5, images=8)}
    both = {row[""]: row for row in metrics_rows(older | {"more": Manifest.open(version).metrics["test"]})}
    assert both["F1"]["test"] == "0.500" and both["ROC AUC"]["test"] == "–"


def test_card_says_what_decides(manifest: Manifest) -> None:
    card = model_card(change(manifest, calibration=Calibration(threshold=0.25, positive=0, aim="recall:0.95")), None)
    assert "hotdog is predicted from a probability of 0.250 on, a threshold that was chosen for recall:0.95." in card


def test_history_tells_of_all_versions(candidate: Made, tmp_path: Path) -> None:
    version = candidate.publish(tmp_path)
    second = shutil.copytree(version, version.with_name("v0002"))
    change(Manifest.open(version), version="v0002", reason="Worse.").save(second)
    newest, oldest = history_rows(version.parent)
    assert (newest["version"], newest["decision"]) == ("v0002", "Worse.")
    assert (oldest["version"], oldest["images"]) == ("v0001 (champion)", "32")
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\) on test", oldest["F1"])
