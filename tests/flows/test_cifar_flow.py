"""The flow that compares architectures, on a few images: what runs, what comes out, what is refused."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Run, kill_in_mid_training, run_flow
from PIL import Image
from prefect.client.orchestration import get_client
from sklearn.metrics import accuracy_score

from cnn import cifar as cifar_batches
from cnn import comparison, progress, reports
from cnn.networks.architectures import ARCHITECTURES
from cnn.support.backend import mx
from cnn.data.catalog import CIFAR10_BATCHES
from cnn.evaluation.classifier import Classifier
from cnn.support.commandline import parse
from cnn.evaluation.comparison import comparison_rows
from cnn.data.datasets import Dataset
from cnn.support.errors import UserError
from cnn.training.hyperparameters import FromScratch
from cnn.publication.model_card import summary
from cnn.data.images import Input, decode, to_tensor
from cnn.training.recipes import CIFAR_RECIPES
from flows.cifar import CifarSettings, cifar
from tasks import preparing, steps, training

pytestmark = pytest.mark.usefixtures("prefect_server")
Runner = Callable[..., Run]
CAVEAT = "The official test batch is not here: data_batch_3.bin was held out from training in its place"


def wide(classes: int) -> Any:
    """Another small network: an architecture is added by a function and a line."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(8, 5, strides=2, activation="relu"), mx.gluon.nn.Dense(classes))
    return net


@pytest.fixture
def small(lenet: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small architectures that can be trained, ``lenet`` and ``wide``."""
    monkeypatch.setitem(ARCHITECTURES, "wide", wide)


@pytest.fixture
def run(small: None, drawn: Path, tmp_path: Path) -> Runner:
    def run_cifar(**settings: Any) -> Run:
        base = {
            "data": str(drawn),
            "architectures": ("lenet", "wide"),
            "side": 16,
            "epochs": 2,
            "store": tmp_path / "store",
            "models": tmp_path / "models",
        }
        return run_flow(cifar, CifarSettings(**(base | settings)))

    return run_cifar


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of a run's time; one test looks at the figures."""
    for module in (comparison, reports):
        monkeypatch.setattr(module, "save_figure", lambda figure, path, notes: path.touch())


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three CIFAR-10 training batches, of 60 images each whose brightness tells the class."""
    folder, labels = tmp_path / "batches", np.arange(60, dtype=np.uint8) % 10
    folder.mkdir()
    monkeypatch.setattr(cifar_batches, "IMAGES", len(labels))
    monkeypatch.setitem(preparing._VALIDATION_SHARES, "cifar", 0.3)
    for number in (1, 2, 3):
        noise = np.random.default_rng(number).integers(0, 60, (len(labels), 3 * 32 * 32))
        data = np.column_stack([labels, noise + 15 * labels[:, None]]).astype(np.uint8).tobytes()
        (folder / f"data_batch_{number}.bin").write_bytes(data)
        monkeypatch.setitem(CIFAR10_BATCHES, f"data_batch_{number}.bin", hashlib.sha1(data).hexdigest())
    return folder


# ---- what runs


@pytest.mark.usefixtures("no_figures")
def test_all_steps_run_once_and_a_changed_recipe_retrains_its_architecture_only(
    run: Runner, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    name = drawn.name
    assert first.worked() == {
        f"fetch {name}", f"prepare {name}", "pack pixels of 16 px", "train lenet", "train wide", "evaluate lenet",
        "evaluate wide", "compare architectures", f"publish {name}",
    }  # fmt: skip
    second = run()
    assert second.states == dict.fromkeys(first.states, "Cached") and second.version == first.version

    monkeypatch.setitem(CIFAR_RECIPES["tuned"], "wide", {"learning_rate": 0.003})
    third = run()
    changed = {"train wide", "evaluate wide", "compare architectures"}
    assert changed <= third.worked() <= {*changed, f"publish {name}"}
    alone = run(architectures=("lenet",))
    assert alone.worked() <= {"compare architectures", f"publish {name}"}
    assert "train wide" not in alone.states


@pytest.mark.usefixtures("no_figures")
def test_a_network_is_trained_again_when_its_layers_change_and_not_when_another_is_added(
    run: Runner, lenet: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    code = steps.code_digest.__wrapped__("tasks.training")

    def wider(classes: int) -> Any:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(9, 5, strides=2, activation="relu"), mx.gluon.nn.Dense(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "wide", wider)
    after = run()
    assert {"train wide"} <= after.worked() and after.states["train lenet"] == "Cached"
    source = steps._source
    monkeypatch.setattr(
        steps, "_source", lambda name: ("edited", frozenset()) if name == "cnn.networks.architectures" else source(name)
    )
    assert steps.code_digest.__wrapped__("tasks.training") == code


def test_presets_figures_and_preparation_are_no_code_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    source = steps._source

    def digest_if_edited(edited: str) -> str:
        def read(module: str) -> tuple[str, frozenset[str]]:
            code, imported = source(module)
            return f"{code}{module == edited}", imported

        monkeypatch.setattr(steps, "_source", read)
        return steps.code_digest.__wrapped__("tasks.training")

    before = digest_if_edited("nothing")
    for module in (
        "cnn.training.recipes",
        "cnn.evaluation.plots",
        "cnn.evaluation.report",
        "cnn.evaluation.comparison",
        "cnn.data.preparation",
    ):
        assert digest_if_edited(module) == before
    assert digest_if_edited("cnn.training.augmentation") != before


# ---- what comes out


@pytest.mark.slow
def test_the_best_is_published_with_the_comparison_and_a_word_of_caution(
    run: Runner, batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_REPORTS", -1.0)
    version = run(data=str(batches), epochs=4, architectures=("wide", "lenet")).version
    manifest = json.loads((version / "manifest.json").read_text())
    compared = json.loads((version / "comparison.json").read_text())
    accuracies = {row["architecture"]: row["validation_accuracy"] for row in compared["rows"]}
    best = max(accuracies, key=accuracies.__getitem__)
    assert list(accuracies) == ["wide", "lenet"] and compared["best"] == best == manifest["architecture"]
    assert Input(**manifest["input"]) == Input.whole(16)
    assert [stage["architecture"] for stage in manifest["recipe"]["stages"]] == [best]

    for name in accuracies:
        for figure in ("confusion", "mistakes"):
            assert min(Image.open(version / f"{name}-{figure}.png").size) > 100
        before, *epochs = pq.read_table(version / f"{name}-history.parquet").to_pylist()
        assert before["epoch"] == before["seconds"] == 0 and [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
        for epoch in epochs:
            assert epoch["train_loss"] > 0 and epoch["seconds"] >= epoch["training_seconds"] > 0
            assert 0 <= epoch["train_accuracy"] <= 1 and 0 <= epoch["validation_accuracy"] <= 1
        assert max(row["validation_accuracy"] for row in (before, *epochs)) == pytest.approx(accuracies[name])

    dataset = Dataset.open(next((tmp_path / "store" / "datasets").iterdir()))
    assert set(manifest["metrics"]) == {"validation", "test"}
    for split in manifest["metrics"]:
        crops = [decode(row.data).resize((16, 16), 2) for row in dataset.rows(split)]  # 2: bilinear
        tensor, labels = to_tensor(crops, Input.whole(16)), dataset.ids_and_labels(split)[1]
        session = onnxruntime.InferenceSession(str(version / f"{best}.onnx"))
        outputs = session.run(None, {"data": tensor})[0]
        net = ARCHITECTURES[best](10)
        net.load_parameters(str(version / f"{best}.params"))
        both = [net(mx.nd.array(seen)).asnumpy() for seen in (tensor, tensor[..., ::-1])]
        np.testing.assert_allclose(np.mean(both, axis=0), outputs, rtol=1e-3, atol=1e-4)
        shares = np.stack(list(Classifier.load(version, [mx.cpu()]).answers(crops)))
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        np.testing.assert_allclose(shares, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
        assert manifest["metrics"][split]["accuracy"] == pytest.approx(accuracy_score(labels, outputs.argmax(1)))

    with get_client(sync_client=True) as client:
        shown = {artifact.key: artifact for artifact in client.read_artifacts()}
    assert {f"progress-train-{name}" for name in accuracies} <= set(shown)
    assert {f"batches-{image.stem}" for image in version.glob("*.png")} <= set(shown)
    assert {f"batches-{name}-{figure}" for name in accuracies for figure in ("confusion", "mistakes")} <= set(shown)
    assert "batches-comparison" in shown
    assert json.loads(str(shown["batches-architectures"].data)) == comparison_rows(version)

    files = ("README.md", "comparison.json", "metrics.json", "../champion.json")
    for said in (*manifest["notes"], *((version / name).read_text() for name in files), summary(version)):
        assert CAVEAT in said


@pytest.mark.usefixtures("no_figures")
def test_a_network_that_diverges_is_named_after_the_others_are_published(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CIFAR_RECIPES["tuned"], "wide", {"learning_rate": 1e30, "warm_up": 0})
    with pytest.raises(
        UserError, match=r"^training wide: the loss became .* 1e\+30 in .* The best of the others is published: "
    ) as error:
        run(architectures=("wide", "lenet"))
    (version,) = (tmp_path / "models").glob("*/v*")
    assert f"published: {version}." in str(error.value) and "lenet" not in str(error.value)
    with pytest.raises(UserError, match=r"^training wide: .* learning rate of 1e\+30 in cnn/recipes\.py, .*recipe\.$"):
        run(architectures=("wide",))
    assert json.loads((version / "manifest.json").read_text())["architecture"] == "lenet"
    rows = json.loads((version / "comparison.json").read_text())["rows"]
    assert [row["architecture"] for row in rows] == ["lenet"]


@pytest.mark.usefixtures("no_figures")
def test_architectures_train_side_by_side_on_several_devices_as_one_after_the_other(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store=tmp_path / "apart", models=tmp_path / "apart_models")
    both, fresh = threading.Barrier(2, timeout=60), training.fresh_model

    def wait_for_the_other(*arguments: Any) -> Any:
        both.wait()  # one after the other, they would wait in vain
        return fresh(*arguments)

    monkeypatch.setattr(training, "fresh_model", wait_for_the_other)
    monkeypatch.setattr(training, "pick_devices", lambda _: [mx.cpu(0), mx.cpu(1)])
    run()
    apart, together = (
        {file.read_bytes() for file in (tmp_path / store / "training").rglob("checkpoint.npz")}
        for store in ("apart", "store")
    )
    assert len(together) == 2 and together == apart


@pytest.mark.usefixtures("no_figures")
def test_on_several_devices_too_a_network_that_is_added_retrains_no_other(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(architectures=("lenet",))
    monkeypatch.setattr(training, "pick_devices", lambda _: [mx.cpu(0), mx.cpu(1)])
    added = run()
    assert added.states["train lenet"] == "Cached" and "train wide" in added.worked()

    split = run(architectures=("lenet",))  # a single one has both devices: another arithmetic
    assert "train lenet" in split.worked()
    (one, two) = (mx.nd.load(str(each.version / "lenet.params")) for each in (alone, split))
    for name, values in one.items():
        np.testing.assert_allclose(two[name].asnumpy(), values.asnumpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("no_figures")
def test_the_third_training_begins_on_the_device_that_is_free_first(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_begins, fresh = threading.Event(), training.fresh_model

    def go_on_with_the_third(settings: FromScratch, *arguments: Any) -> Any:
        if settings.architecture == "third":
            third_begins.set()
        if settings.architecture == "lenet":
            assert third_begins.wait(timeout=60)
        return fresh(settings, *arguments)

    monkeypatch.setitem(ARCHITECTURES, "third", wide)
    monkeypatch.setattr(training, "fresh_model", go_on_with_the_third)
    monkeypatch.setattr(training, "pick_devices", lambda _: [mx.cpu(0), mx.cpu(1)])
    trained = run(architectures=("lenet", "wide", "third"), epochs=1)
    assert trained.worked() >= {"train lenet", "train wide", "train third"}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    run: Runner, drawn: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"architectures": ("squeezenet",), "epochs": 15, "side": 32}
    whole = run(**settings, store=tmp_path / "whole", models=tmp_path / "whole_models")
    places = ("--data", str(drawn), "--models", str(tmp_path / "models"))
    flags = ("--architectures", "squeezenet", "--epochs", "15", "--side", "32")
    kill_in_mid_training("cifar", tmp_path / "store", *flags, *places)
    caplog.clear()
    after = run(**settings)
    assert "squeezenet: going on after epoch" in caplog.text
    for name in ("squeezenet.params", "history.parquet", "metrics.json"):
        assert (after.version / name).read_bytes() == (whole.version / name).read_bytes()


# ---- what is refused


@pytest.mark.usefixtures("small")
def test_images_that_are_too_small_are_refused_before_any_work(tmp_path: Path) -> None:
    architectures, folders = ("wide", "lenet"), {"store": tmp_path / "store", "models": tmp_path / "models"}
    settings = CifarSettings(side=5, architectures=architectures, **folders)
    for refuse in (settings.check, lambda: cifar(settings)):  # the command line checks without Prefect's server
        with pytest.raises(UserError, match=r"5 × 5 px are too small for lenet.* --side 6 or more"):
            refuse()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--architectures", "alexnet,resnet"], r"resnet: .*one of \['alexnet', 'vgg', 'squeezenet'\]"),
        (["--architectures", "resnet"], r"resnet: .*one of \['alexnet', 'vgg', 'squeezenet'\]"),
        (["--architectures", "[]"], "--architectures .*should be non-empty"),
        (["--recipe", "fast"], r"--recipe fast: .*one of \['tuned', 'notebook'\]"),
        (["--side", "0"], "--side 0: .*less than the minimum of 1"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(CifarSettings, arguments)


def test_several_architectures_are_named_together_or_one_by_one(small: None) -> None:
    names = ("lenet", "vgg")
    for flags in (["--architectures", "lenet,vgg"], ["--architectures", "lenet", "--architectures", "vgg"]):
        assert parse(CifarSettings, flags) == CifarSettings(architectures=names)
