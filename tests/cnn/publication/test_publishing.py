"""What is published, and what a publication that was killed leaves."""

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from candidates import Made, equal, hotdog, models, other, photos  # noqa: F401  (fixtures)
from conftest import ROOT, write_images
from PIL import Image

from cnn.data.preparation import prepare
from cnn.evaluation.answers import UNCALIBRATED
from cnn.evaluation.comparison import Comparison, ComparisonRow
from cnn.evaluation.report import evaluate
from cnn.publication.champions import champion, find_champion, promote
from cnn.publication.contents import new_images
from cnn.publication.manifest import Manifest, versions
from cnn.publication.model_card import history_rows, model_card, summary
from cnn.publication.versions import is_intact, load_version
from cnn.support.errors import UserError
from cnn.support.files import file_digest


def test_same_candidate_is_published_once(hotdog: Made, models: Path) -> None:
    assert hotdog.publish(models) == hotdog.publish(models) == models / "food" / "v0001"
    assert hotdog.of_other_data().publish(models).name == "v0002"


def test_altered_version_is_followed_by_another(hotdog: Made, models: Path) -> None:
    first = hotdog.publish(models)
    (first / "squeezenet.onnx").write_bytes(b"altered")
    second = hotdog.publish(models)
    assert second.name == "v0002" and champion(models / "food") == second
    assert (first / "squeezenet.onnx").read_bytes() == b"altered"


def test_earlier_version_does_not_replace_the_champion(hotdog: Made, equal: Made, models: Path) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    assert hotdog.publish(models) == first and champion(models / "food") == second


def test_report_of_another_checkpoint_is_refused(hotdog: Made, equal: Made, models: Path) -> None:
    with pytest.raises(ValueError, match="is a report of another checkpoint"):
        hotdog.publish(models, checkpoint=equal.checkpoint)
    assert not (models / "food").exists()


def test_same_network_of_another_comparison_is_published_anew(hotdog: Made, tmp_path: Path, models: Path) -> None:
    report = shutil.copytree(hotdog.report, tmp_path / "report")
    row = {name: 0.0 for name, field in ComparisonRow.model_fields.items() if field.annotation is float}
    rows = [ComparisonRow(**row | {"architecture": name, "parameters": 1}) for name in ("vgg", "alexnet")]
    for number in (1, 2):
        found = Comparison(best="vgg", split="test", caveats=(), rows=tuple(rows[:number]))
        (report / "comparison.json").write_text(found.model_dump_json())
        made = [replace(hotdog, report=report).publish(models) for _ in range(2)]
        assert [version.name for version in made] == [f"v000{number}"] * 2
        assert Comparison.open(made[0]) == found


def test_same_network_with_another_threshold_is_published_anew(hotdog: Made, tmp_path: Path, models: Path) -> None:
    first = hotdog.publish(models)
    evaluate(hotdog.checkpoint, hotdog.dataset, tmp_path / "report", threshold="0.95")
    second = replace(hotdog, report=tmp_path / "report").publish(models)
    assert second.name == "v0002" and Manifest.open(second).calibration.threshold == 0.95
    image = Image.new("RGB", (32, 32))
    for version, predicted in ((first, "hotdog"), (second, "not_hotdog")):  # whose probability of hotdog is below .95
        classifier = load_version(version)
        (shares,) = classifier.predict([image])
        assert classifier.classes[classifier.calibration.decide(shares)] == predicted
        table = pq.read_table(version / "predictions-test.parquet").to_pylist()
        assert {row["prediction"] for row in table} == {predicted}
        assert shares[0] == pytest.approx(table[0]["p(hotdog)"], abs=1e-5)


def test_version_of_before_calibration_answers_as_it_did(hotdog: Made, models: Path) -> None:
    version = hotdog.publish(models)
    content = json.loads((version / "manifest.json").read_text())
    for new in ("calibration", "checksum", "outlook"):
        del content[new]
    kept = ("accuracy", "precision", "recall", "f1", "images")
    content["metrics"] = {split: {name: found[name] for name in kept} for split, found in content["metrics"].items()}
    (version / "manifest.json").write_text(json.dumps(content))
    assert load_version(version).calibration == UNCALIBRATED
    assert "0.667 on test" in history_rows(version.parent)[0]["F1"] and "accuracy" in summary(version)
    assert "| mean |" not in model_card(Manifest.open(version), None)


def test_manifest_says_what_was_published(hotdog: Made, models: Path) -> None:
    noted = hotdog.with_lineage(notes=("Mind the gap.",), seed=7)
    version = noted.publish(models)
    manifest = Manifest.open(version)
    assert manifest.files == {
        path.name: file_digest(path) for path in version.iterdir() if path.name != "manifest.json"
    }
    assert (manifest.name, manifest.version, manifest.classes) == ("food", "v0001", ("hotdog", "not_hotdog"))
    assert manifest.lineage == noted.lineage and manifest.positive == "hotdog"
    assert manifest.checkpoint == file_digest(noted.checkpoint / "checkpoint.npz")
    assert {"numpy", "pillow", "pyarrow"} < set(manifest.software)
    for report in hotdog.report.iterdir():
        assert (version / report.name).read_bytes() == report.read_bytes()


def test_images_are_listed_with_their_splits(hotdog: Made, models: Path, photos: Path) -> None:
    version, dataset = hotdog.publish(models), hotdog.dataset
    rows = pq.read_table(version / "images.parquet").to_pylist()
    assert len(rows) == 32 and {row["split"] for row in rows} == {"train", "validation", "test"}
    for row in rows:
        assert row["image"].split("/")[:2] == [row["split"], row["label"]]
    assert [row["id"] for row in rows if row["split"] == "test"] == dataset.ids_and_labels("test")[0]

    assert new_images(dataset, version) == 0
    write_images(photos / "train", 2, first=50, labels=("hotdog",))
    (photos / "train" / "not_hotdog" / "0000.jpg").rename(photos / "train" / "not_hotdog" / "renamed.jpg")
    (photos / "train" / "not_hotdog" / "0001.jpg").unlink()
    assert new_images(prepare(photos, photos.parent / "more"), version) == 2


# ---- what was interrupted


def test_promotion_that_was_interrupted_is_made_up_for(hotdog: Made, other: Made, models: Path) -> None:
    worse, better = other.publish(models), hotdog.publish(models)
    promote(worse)  # as if the process had been killed before it promoted the other
    assert other.publish(models) == worse == champion(models / "food")
    assert hotdog.publish(models) == better == champion(models / "food")
    assert other.publish(models) == worse and champion(models / "food") == better


def test_number_of_a_champion_that_was_deleted_is_not_used_again(hotdog: Made, other: Made, models: Path) -> None:
    shutil.rmtree(hotdog.publish(models))
    second = other.publish(models)
    assert second.name == "v0002" and not Manifest.open(second).promoted
    with pytest.raises(UserError, match=r"none of its versions is the champion and can answer"):
        find_champion(models, "food")


def test_two_runs_publish_one_after_the_other(hotdog: Made, other: Made, models: Path) -> None:
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda candidate: candidate.publish(models), (hotdog, other)))
    assert sorted(path.name for path in made) == ["v0001", "v0002"]
    assert champion(models / "food") == made[0]  # the hotdogs' is better, be it first or second


STOP_INSIDE = """
import pickle, sys, time
from pathlib import Path
from cnn.publication import publishing

def stop(*arguments):
    print("inside", flush=True)
    time.sleep(60)

publishing.model_card = stop
candidate, models = pickle.loads(sys.stdin.buffer.read())
publishing.publish(**candidate, name="food", models=models)
"""


def test_killed_publication_leaves_nothing_behind(hotdog: Made, models: Path) -> None:
    command, pipe = [sys.executable, "-c", STOP_INSIDE], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdin and process.stdout
        process.stdin.write(pickle.dumps((vars(hotdog), models)))
        process.stdin.close()
        assert process.stdout.readline() == b"inside\n"
        process.kill()
    (left,) = (models / "food").iterdir()  # beside its place, with almost everything in it
    assert left.name.startswith(".v0001.") and (left / "squeezenet.onnx").exists()
    assert champion(models / "food") is None
    assert not versions(models / "food")
    version = hotdog.publish(models)
    assert version.name == "v0001" and champion(models / "food") == version
    assert {path.name for path in (models / "food").iterdir()} == {"v0001", "champion.json"}


STEPS = ("export_network", "_images_table", "model_card", "decide", "make_champion")


@pytest.mark.parametrize("step", [*STEPS, "Manifest.save", "atomic_folder"])
def test_failure_at_any_step_leaves_the_champion_and_is_made_up_for(
    hotdog: Made, equal: Made, models: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first = hotdog.publish(models)
    before = (models / "food" / "champion.json").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("it failed here")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="it failed here"):
        patched.setattr(f"cnn.publication.publishing.{step}", fail)
        equal.publish(models)
    whole = {first, models / "food" / "v0002"} if step == "make_champion" else {first}
    assert set((models / "food").iterdir()) == whole | {models / "food" / "champion.json"}
    assert (models / "food" / "champion.json").read_bytes() == before and all(map(is_intact, whole))
    assert equal.publish(models) == champion(models / "food") == models / "food" / "v0002"
