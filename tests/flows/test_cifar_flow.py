"""The flow that compares architectures, on a few images: what runs, what comes out, what is refused."""

import hashlib
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Run, run_flow
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort
from scipy.special import softmax
from sklearn.metrics import accuracy_score
from without_figures import no_figures  # noqa: F401  (a fixture)

from cnn.data.catalog import CIFAR10_BATCHES
from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.data.sources import cifar as cifar_source
from cnn.evaluation.comparison import Comparison
from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.publication.manifest import Manifest
from cnn.publication.model_card import summary
from cnn.publication.versions import load_version
from cnn.support.backend import Devices, mx
from cnn.support.errors import UserError
from cnn.training import scratch
from cnn.training.recipes import CIFAR_RECIPES
from cnn.training.workers import Workers
from flows import cifar as module
from flows.cifar import CifarSettings, cifar

pytestmark = pytest.mark.usefixtures("prefect_server")
Runner = Callable[..., Run]
CAVEAT = "The official test batch is missing: data_batch_3.bin was held out from training in its place"


def wide(classes: int) -> Any:
    """Another small network: an architecture is added by a function and a line."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(8, 5, strides=2, activation="relu"), mx.gluon.nn.Dense(classes))
    return net


@pytest.fixture
def small(lenet: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small architectures that can be trained, ``lenet`` and ``wide``."""
    monkeypatch.setitem(ARCHITECTURES, "wide", Architecture(wide, smallest_side=5))


@pytest.fixture
def run(small: None, drawn: Path, tmp_path: Path) -> Runner:
    base = {
        "data": str(drawn),
        "architectures": ("lenet", "wide"),
        "side": 16,
        "epochs": 2,
        "store": tmp_path / "store",
        "models": tmp_path / "models",
    }
    return lambda **settings: run_flow(cifar, CifarSettings(**(base | settings)))


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the machine one of two devices."""
    return lambda: monkeypatch.setattr(module, "choose_devices", lambda *_, **__: Devices(numbers=(0, 1)))


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three CIFAR-10 training batches, of 60 images each whose brightness depends on the class."""
    folder, labels = tmp_path / "batches", np.arange(60, dtype=np.uint8) % 10
    folder.mkdir()
    monkeypatch.setattr(cifar_source, "IMAGES", len(labels))
    monkeypatch.setattr(cifar_source.CifarSource, "validation_share", 0.3)
    for number in (1, 2, 3):
        noise = np.random.default_rng(number).integers(0, 60, (len(labels), 3 * 32 * 32))
        data = np.column_stack([labels, noise + 15 * labels[:, None]]).astype(np.uint8).tobytes()
        (folder / f"data_batch_{number}.bin").write_bytes(data)
        monkeypatch.setitem(CIFAR10_BATCHES, f"data_batch_{number}.bin", hashlib.sha1(data).hexdigest())
    return folder


# ---- what runs


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_only_changed_architectures_are_trained(run: Runner, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, name = run(), drawn.name
    assert first.worked() == {
        f"open {name}", f"prepare {name}", "pack pixels of 16 px", "train lenet", "train wide", "evaluate lenet",
        "evaluate wide", "compare architectures", f"publish {name}",
    }  # fmt: skip
    second = run()
    assert second.states == dict.fromkeys(first.states, "Cached") and second.version == first.version

    changed = {"train wide", "evaluate wide", "compare architectures"}
    monkeypatch.setitem(CIFAR_RECIPES["tuned"], "wide", {"learning_rate": 0.003})
    assert changed <= run().worked() <= {*changed, f"publish {name}"}

    def wider(classes: int) -> Any:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(9, 5, strides=2, activation="relu"), mx.gluon.nn.Dense(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "wide", Architecture(wider, smallest_side=5))
    assert changed <= run().worked() <= {*changed, f"publish {name}"}
    alone = run(architectures=("lenet",))
    assert alone.worked() <= {"compare architectures", f"publish {name}"}
    assert "train wide" not in alone.states
    other_seed = run(seed=1)
    assert {"train lenet", "train wide"} <= other_seed.worked()
    assert {f"open {name}", f"prepare {name}", "pack pixels of 16 px"} <= other_seed.states.keys() - other_seed.worked()

    second_worker = Workers()
    second_worker.rank = 1
    monkeypatch.setattr(module, "together", lambda: nullcontext(second_worker))
    followed = run(seed=2)
    assert followed.state == "Followed" and "Trained lenet, wide together with worker 0" in followed.message
    assert "train wide" in followed.worked() and not any(task.startswith(("eval", "publ")) for task in followed.states)


@pytest.mark.usefixtures("no_figures")
def test_side_by_side_is_as_one_after_the_other(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_devices: Callable[[], None]
) -> None:
    run(store=tmp_path / "apart", models=tmp_path / "apart_models")
    both, make_model = threading.Barrier(2, timeout=60), scratch.scratch_model

    def wait_for_the_other(*arguments: Any) -> Any:
        both.wait()  # one after the other, they would wait in vain
        return make_model(*arguments)

    monkeypatch.setattr(scratch, "scratch_model", wait_for_the_other)
    two_devices()
    run()
    apart, together = (
        {file.read_bytes() for file in (tmp_path / store / "training").rglob("checkpoint.npz")}
        for store in ("apart", "store")
    )
    assert len(together) == 2 and together == apart


@pytest.mark.usefixtures("no_figures")
def test_added_architecture_retrains_no_other(run: Runner, two_devices: Callable[[], None]) -> None:
    alone = run(architectures=("lenet",))
    two_devices()
    added = run()
    assert added.states["train lenet"] == "Cached" and "train wide" in added.worked()

    split = run(architectures=("lenet",))  # a single one has both devices: another arithmetic
    assert "train lenet" in split.worked()
    (one, two) = (mx.nd.load(str(each.version / "lenet.params")) for each in (alone, split))
    for name, values in one.items():
        np.testing.assert_allclose(two[name].asnumpy(), values.asnumpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("no_figures")
def test_third_training_takes_the_first_free_device(
    run: Runner, monkeypatch: pytest.MonkeyPatch, two_devices: Callable[[], None]
) -> None:
    third_begins, make_model = threading.Event(), scratch.scratch_model

    def end_after_the_third_began(stage: Any, *arguments: Any) -> Any:
        if stage.architecture == "third":
            third_begins.set()
        if stage.architecture == "lenet":
            assert third_begins.wait(timeout=60)
        return make_model(stage, *arguments)

    monkeypatch.setitem(ARCHITECTURES, "third", Architecture(wide))
    monkeypatch.setattr(scratch, "scratch_model", end_after_the_third_began)
    two_devices()
    trained = run(architectures=("lenet", "wide", "third"), epochs=1)
    assert trained.worked() >= {"train lenet", "train wide", "train third"}


# ---- what comes out


@pytest.mark.slow
def test_best_is_published_with_the_comparison(run: Runner, batches: Path, tmp_path: Path) -> None:
    version = run(data=str(batches), epochs=4, architectures=("wide", "lenet")).version
    manifest, compared = Manifest.open(version), Comparison.open(version)
    accuracies = {row.architecture: row.validation_accuracy for row in compared.rows}
    best = max(accuracies, key=accuracies.__getitem__)
    assert list(accuracies) == ["wide", "lenet"] and compared.best == best == manifest.network.architecture
    assert manifest.network.preprocessing == Preprocessing.whole(16)
    assert [stage["architecture"] for stage in manifest.lineage.stages] == [best]
    check_histories(version, accuracies)
    check_predictions(version, Dataset.open(next((tmp_path / "store" / "datasets").glob("*/"))), best)
    check_artifacts(version, compared)
    files = ("README.md", "comparison.json", "metrics.json", "../champion.json")
    for text in (*manifest.lineage.notes, *((version / name).read_text() for name in files), summary(version)):
        assert CAVEAT in text


def check_histories(version: Path, accuracies: dict[str, float]) -> None:
    for name, accuracy in accuracies.items():
        for figure in ("confusion", "mistakes"):
            assert min(Image.open(version / f"{name}-{figure}.png").size) > 100
        before, *epochs = pq.read_table(version / f"{name}-history.parquet").to_pylist()
        assert before["epoch"] == before["seconds"] == 0 and [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
        for epoch in epochs:
            assert epoch["train_loss"] > 0 and epoch["seconds"] >= epoch["training_seconds"] > 0
            assert 0 <= epoch["train_accuracy"] <= 1 and 0 <= epoch["validation_accuracy"] <= 1
        assert max(row["validation_accuracy"] for row in (before, *epochs)) == pytest.approx(accuracy)


def check_predictions(version: Path, dataset: Dataset, best: str) -> None:
    """What is published predicts what its metrics say, whatever runs it; images go in as Pillow and numpy make them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(version / f"{best}.onnx"))
    net = ARCHITECTURES[best].build(10)
    net.load_parameters(str(version / f"{best}.params"))
    mean, std = (np.array(each, np.float32) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    metrics = Manifest.open(version).metrics
    assert set(metrics) == {"validation", "test"}
    for split in metrics:
        images = []
        for row in dataset.rows(split):
            (file := version.parent / "image.png").write_bytes(row.data)
            images.append(Image.open(file).resize((16, 16), Image.Resampling.BILINEAR))
        values = [(np.asarray(image) / np.float32(255) - mean) / std for image in images]
        shown, labels = np.stack(values).transpose(0, 3, 1, 2), dataset.ids_and_labels(split)[1]
        shares = session.run(None, {"data": shown})[0]
        both = [net(mx.nd.array(each)).asnumpy() for each in (shown, shown[..., ::-1])]
        temperature = Manifest.open(version).calibration.temperature
        np.testing.assert_allclose(shares, softmax(np.mean(both, axis=0) / temperature, axis=1), atol=1e-4)
        np.testing.assert_allclose(list(load_version(version).predict(images)), shares, atol=1e-5)
        assert metrics[split].accuracy == pytest.approx(accuracy_score(labels, shares.argmax(1)))


def check_artifacts(version: Path, compared: Comparison) -> None:
    with get_client(sync_client=True) as client:
        shown = {artifact.key: artifact for artifact in client.read_artifacts(sort=ArtifactSort.CREATED_DESC)}
    assert {f"progress-train-{row.architecture}" for row in compared.rows} <= set(shown)
    page = str(shown["batches-report"].data)
    assert all(f"![{figure.stem}](data:image/jpeg;base64," in page for figure in version.glob("*.png"))
    assert all(f"| {row.architecture} |" in page for row in compared.rows)


# ---- what is refused


@pytest.mark.usefixtures("no_figures")
def test_diverging_network_is_named_after_the_others_are_published(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CIFAR_RECIPES["tuned"], "wide", {"learning_rate": 1e30, "warm_up": 0})
    message = r"^training wide: the loss became .* 1e\+30 in .* The best of the others is published: "
    with pytest.raises(UserError, match=message) as refused:
        run(architectures=("wide", "lenet"))
    (version,) = (tmp_path / "models").glob("*/v*")
    assert f"published: {version}." in str(refused.value) and "lenet" not in str(refused.value)
    with pytest.raises(UserError, match=r"^training wide: .* rate of 1e\+30 in cnn/training/recipes\.py, .*recipe\.$"):
        run(architectures=("wide",))
    assert Manifest.open(version).network.architecture == "lenet"
    assert [row.architecture for row in Comparison.open(version).rows] == ["lenet"]


def test_network_that_cannot_be_exported_is_refused(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    class Halving(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, images: Any) -> Any:  # noqa: N803
            return images.reshape((images.shape[0], -1))[:, :2]

    def build(classes: int) -> Any:
        return Halving()

    monkeypatch.setitem(ARCHITECTURES, "halving", Architecture(build))
    with pytest.raises(UserError, match=r"^halving: it cannot be exported as a graph"):
        run(architectures=("halving",))
