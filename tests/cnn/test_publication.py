"""Which candidate becomes the champion, on the same pictures and on others."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_pictures

from cnn import publication
from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.checkpoints import Checkpoint, save_checkpoint
from cnn.classifier import Classifier
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.files import file_digest
from cnn.hyperparameters import PRETRAINED
from cnn.model_card import summary
from cnn.networks import initialise, parameters
from cnn.preparation import prepare
from cnn.publication import Candidate, champion, new_pictures, promote, publish, read_manifest, versions
from cnn.recipes import cifar_recipe
from cnn.reports import write_report
from cnn.squeezenet import squeezenet

CPU = [mx.cpu()]


def candidate(folder: Path, dataset: Dataset, always: int, digest: str = "d0") -> Candidate:
    """A network that answers with the class ``always`` whatever it is shown."""
    values = parameters(initialise(squeezenet(2), 224, CPU, seed=0))
    values["output.0.weight"][:] = 0
    values["output.0.bias"][:] = np.eye(2)[always]
    row = {"stage": 1, "epoch": 0, "validation_accuracy": 0.5, "validation_f1": 0.5}
    checkpoint, report = folder / f"{always}.npz", folder / f"report{always}"
    save_checkpoint(checkpoint, Checkpoint(values, (row,)))
    write_report(checkpoint, PRETRAINED, dataset, 0, CPU, report)
    origin = {
        "data": {"source": "drawn", "digest": digest, "counts": {}, "split": "", "left_out": 0, "duplicates": 0},
        "weights": {"source": "random", "digest": "w"},
        "recipe": {"name": "tuned"},
        "notes": [],
        "seed": 0,
        "device": "cpu(0)",
    }
    return Candidate("food", PRETRAINED, checkpoint, report, dataset, 0, "f1", origin)


def test_new_are_the_pictures_that_a_version_was_not_made_from(
    drawn: Path, drawn_dataset: Dataset, tmp_path: Path
) -> None:
    version = publish(candidate(tmp_path, drawn_dataset, 0), tmp_path / "models", CPU)
    assert new_pictures(drawn_dataset, version) == 0
    photos = shutil.copytree(drawn, tmp_path / "photos")
    write_pictures(photos / "train", 2, first=50, labels=("hotdog",))
    (photos / "train" / "not_hotdog" / "0000.jpg").rename(photos / "train" / "not_hotdog" / "renamed.jpg")
    (photos / "train" / "not_hotdog" / "0001.jpg").unlink()
    assert new_pictures(prepare(photos, tmp_path / "more"), version) == 2


def test_a_version_is_loaded_without_a_warning(drawn_dataset: Dataset, tmp_path: Path) -> None:
    version = publish(candidate(tmp_path, drawn_dataset, 0), tmp_path / "models", CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Classifier.load(version, CPU).classes == drawn_dataset.classes


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_tuned_network_answers_alike_in_every_form(name: str, drawn_dataset: Dataset, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    design = cifar_recipe("tuned", name).design
    net = initialise(ARCHITECTURES[name](2), design.input.crop, CPU, seed=0)
    save_checkpoint(tmp_path / "network.npz", Checkpoint(parameters(net)))
    made = replace(candidate(tmp_path, drawn_dataset, 0), design=design, checkpoint=tmp_path / "network.npz")
    version = publish(made, tmp_path / "models", CPU)

    seen = np.random.default_rng(0).normal(size=(3, 3, design.input.crop, design.input.crop)).astype(np.float32)
    both = [net(mx.nd.array(each)).asnumpy() for each in (seen, seen[..., ::-1])]
    expected = np.mean(both, axis=0) if design.mirrored_mean else both[0]
    session = onnxruntime.InferenceSession(str(version / f"{name}.onnx"))
    np.testing.assert_allclose(session.run(None, {"data": seen})[0], expected, rtol=1e-3, atol=1e-4)
    symbol = mx.gluon.SymbolBlock.imports(
        str(version / f"{name}-symbol.json"), ["data"], str(version / f"{name}-0000.params")
    )
    np.testing.assert_allclose(symbol(mx.nd.array(seen)).asnumpy(), expected, rtol=1e-3, atol=1e-4)


def test_only_what_is_not_worse_becomes_champion(drawn_dataset: Dataset, tmp_path: Path) -> None:
    hotdog, other = (candidate(tmp_path, drawn_dataset, always) for always in (0, 1))
    models = tmp_path / "models"
    assert champion(models / "food") is None
    first = publish(other, models, CPU)
    assert champion(models / "food") == first
    second = publish(hotdog, models, CPU)  # F1 of the hotdog is 2/3 if every answer is hotdog, and 0 if none is
    assert champion(models / "food") == second
    third = publish(
        replace(other, origin=other.origin | {"data": other.origin["data"] | {"digest": "d1"}}), models, CPU
    )
    assert champion(models / "food") == second
    assert [path.name for path in versions(models / "food")] == ["v0001", "v0002", "v0003"]
    assert not read_manifest(third)["promoted"]
    assert "0.0000 against 0.6667" in read_manifest(third)["why"]


def test_the_champion_is_measured_anew_on_other_pictures(drawn_dataset: Dataset, tmp_path: Path) -> None:
    hotdog, other = (candidate(tmp_path, drawn_dataset, always) for always in (0, 1))
    first = publish(hotdog, tmp_path / "models", CPU)
    manifest = read_manifest(first)
    manifest["metrics"]["validation"]["f1"] = 0.0  # as if it had been measured on harder pictures
    (first / "manifest.json").write_text(json.dumps(manifest))
    publish(
        replace(other, origin=other.origin | {"data": other.origin["data"] | {"digest": "d1"}}),
        tmp_path / "models",
        CPU,
    )
    assert champion(tmp_path / "models" / "food") == first


def test_pictures_that_the_champion_learnt_from_do_not_decide(
    drawn: Path, drawn_dataset: Dataset, tmp_path: Path
) -> None:
    hotdog = candidate(tmp_path, drawn_dataset, 0)
    first = publish(hotdog, tmp_path / "models", CPU)
    photos = shutil.copytree(drawn, tmp_path / "photos")
    shutil.rmtree(photos / "validation")
    for name in ("0000.jpg", "0001.jpg"):  # two of what it learnt from, both hotdogs, and two that it never saw
        place = photos / "validation" / "hotdog" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (photos / "train" / "hotdog" / name).rename(place)
    write_pictures(photos / "validation", 2, first=300, labels=("not_hotdog",))
    other = candidate(tmp_path, prepare(photos, tmp_path / "mixed"), 1, digest="d1")
    second = publish(replace(other, chosen_by="accuracy"), tmp_path / "models", CPU)
    assert "accuracy 1.0000 against 0.0000 of v0001" in read_manifest(second)["why"]  # over all four it is .5 and .5
    shutil.rmtree(photos / "validation" / "not_hotdog")
    (photos / "train" / "not_hotdog" / "0000.jpg").rename(photos / "validation" / "not_hotdog.jpg")
    (photos / "validation" / "not_hotdog").mkdir()
    (photos / "validation" / "not_hotdog.jpg").rename(photos / "validation" / "not_hotdog" / "0000.jpg")
    shutil.rmtree(second)
    promote(first, read_manifest(first))
    third = publish(candidate(tmp_path, prepare(photos, tmp_path / "known"), 1, digest="d2"), tmp_path / "models", CPU)
    assert read_manifest(third)["why"] == (
        "v0001 learnt from all of these validation pictures, so it cannot be compared."
    )


def test_the_same_network_out_of_another_comparison_is_published_with_it(
    drawn_dataset: Dataset, tmp_path: Path
) -> None:
    found = candidate(tmp_path, drawn_dataset, 0)
    for number, rows in enumerate(({"vgg": 0.5}, {"vgg": 0.5, "alexnet": 0.25}), start=1):
        told = {"rows": [{"architecture": name, "accuracy": accuracy} for name, accuracy in rows.items()]}
        (found.report / "comparison.json").write_text(json.dumps(told))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publication, "comparison_rows", lambda folder: [])
            versions_of = [publish(found, tmp_path / "models", CPU) for _ in range(2)]
        assert [version.name for version in versions_of] == [f"v000{number}"] * 2
        assert json.loads((versions_of[0] / "comparison.json").read_text()) == told


def test_a_manifest_lists_every_file_with_its_digest(drawn_dataset: Dataset, tmp_path: Path) -> None:
    version = publish(candidate(tmp_path, drawn_dataset, 0), tmp_path / "models", CPU)
    files = read_manifest(version)["files"]
    assert files.keys() == {path.name for path in version.iterdir()} - {"manifest.json"}
    assert all(file_digest(version / name) == digest for name, digest in files.items())


def test_the_same_candidate_is_published_once(drawn_dataset: Dataset, tmp_path: Path) -> None:
    found = candidate(tmp_path, drawn_dataset, 0)
    assert publish(found, tmp_path / "models", CPU) == publish(found, tmp_path / "models", CPU)


def test_what_was_published_becomes_champion_when_there_is_none_or_it_was_stopped_before(
    drawn_dataset: Dataset, tmp_path: Path
) -> None:
    hotdog, other = (candidate(tmp_path, drawn_dataset, always) for always in (0, 1))
    models, folder = tmp_path / "models", tmp_path / "models" / "food"
    better, worse = publish(hotdog, models, CPU), publish(other, models, CPU)
    assert champion(folder) == better
    shutil.rmtree(better)
    assert publish(other, models, CPU) == worse == champion(folder)
    assert f"food {worse.name} has become the champion since." in summary(worse)
    again = publish(hotdog, models, CPU)
    assert champion(folder) == again
    promote(worse, read_manifest(worse))  # as if the process had been killed before it was promoted
    assert publish(hotdog, models, CPU) == again == champion(folder)
    assert publish(other, models, CPU) == worse and champion(folder) == again
    assert f"food {again.name} is the champion. Not worse than" in summary(again)
    assert f"food {worse.name} is not the champion. Worse than" in summary(worse)


def test_an_altered_champion_is_said(drawn_dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = publish(candidate(tmp_path, drawn_dataset, 0), tmp_path / "models", CPU)
    (first / "README.md").write_text("edited")
    second = publish(candidate(tmp_path, drawn_dataset, 1), tmp_path / "models", CPU)
    assert read_manifest(second)["why"] == "There was no champion to compare with that is whole."
    assert f"{first} was altered since it was published" in caplog.text


def test_a_champion_that_is_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "champion.json").write_text('{"version": "v0007"}')
    with pytest.raises(UserError, match="v0007"):
        champion(tmp_path)
    (tmp_path / "champion.json").write_text("[]")
    with pytest.raises(UserError, match="publish again"):
        champion(tmp_path)
