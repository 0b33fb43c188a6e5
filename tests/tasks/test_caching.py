"""What decides whether a step runs: the key of each step after edits of the code and with other inputs."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from edits import act, copy_code, replace, reword
from prefect import Task

from cnn.data.images import PHOTO
from cnn.publication.manifest import DataOrigin, Lineage
from cnn.support import fingerprint
from cnn.support.backend import Devices
from cnn.support.references import Reference
from cnn.training.hyperparameters import ImageStage, Training
from cnn.training.recipes import cifar_recipe, hotdog_recipe
from tasks import caching, evaluating, fetching, preparing, publishing, training
from tasks.caching import Call, calling, own_folder
from tasks.gpus import Placement

STORE = Path("/store")
DEVICES = Devices()


def reference(name: str) -> Reference:
    return Reference(path=Path("/store") / name, digest=f"digest of {name}", checksum=f"checksum of {name}")


DATASET, WEIGHTS, FEATURES = reference("dataset"), reference("weights"), reference("features")
LINEAGE = Lineage(
    data=DataOrigin(source="photos", digest="d", counts={}, split_origin="", left_out=0, duplicates=0),
    weights=None,
    recipe="tuned",
    stages=(),
    seed=0,
    device="cpu(0)",
)
TRANSFER: dict[str, Any] = {
    "inputs": FEATURES, "dataset": DATASET, "start": WEIGHTS, "positive": None, "seed": 0, "devices": DEVICES,
    "store": STORE,
}  # fmt: skip
SCRATCH: dict[str, Any] = {
    "pixels": reference("pixels"), "dataset": DATASET, "seed": 0, "store": STORE,
    "where": Placement(devices=DEVICES, together=False),
}  # fmt: skip
DONE: dict[str, Any] = {"checkpoint": reference("checkpoint"), "dataset": DATASET, "devices": DEVICES}

#: A call of each step of both flows, by its name: the task and its inputs.
STEPS: dict[str, tuple[Task[..., Any], dict[str, Any]]] = {
    "draw sample": (fetching.draw_sample, {"seed": 0, "store": STORE}),
    "download photos": (fetching.download_data, {"name": "hotdog", "store": STORE, "mirror": None}),
    "open photos": (fetching.open_data, {"path": Path("/photos")}),
    "download weights": (fetching.download_weights, {"name": "imagenet", "store": STORE, "mirror": None}),
    "draw weights": (fetching.draw_weights, {"seed": 0, "store": STORE}),
    "open weights": (fetching.open_weights, {"path": Path("/weights.npz")}),
    "prepare": (preparing.prepare, {"source": reference("photos"), "test_as_validation": False, "store": STORE}),
    "embed": (
        preparing.embed,
        {"dataset": DATASET, "weights": WEIGHTS, "views": 4, "seed": 0, "devices": DEVICES, "store": STORE},
    ),
    "pack records": (preparing.pack_records, {"dataset": DATASET, "store": STORE}),
    "pack pixels": (preparing.pack_pixels, {"dataset": DATASET, "preprocessing": PHOTO, "store": STORE}),
    "train output": (training.train_stage, {"stage": hotdog_recipe().stages[0], **TRANSFER}),
    "train all": (training.train_stage, {"stage": ImageStage(trains="all"), **TRANSFER}),
    **{
        f"train {name}": (training.train_architecture, {"stage": cifar_recipe("tuned", name).stages[0], **SCRATCH})
        for name in ("alexnet", "vgg", "squeezenet")
    },
    "evaluate": (evaluating.evaluate, {"what": "classifier", **DONE, "positive": None, "store": STORE}),
    "compare": (
        evaluating.compare,
        {"checkpoints": {"vgg": WEIGHTS}, "reports": {"vgg": FEATURES}, "dataset": DATASET, "store": STORE},
    ),
    "publish": (
        publishing.publish,
        {
            "name": "food", **DONE, "report": reference("report"), "lineage": LINEAGE,
            "made_from": {"data": reference("photos")}, "models": Path("/models"),
        },
    ),
}  # fmt: skip
DOWNLOADS = {"download photos", "download weights"}
FROM_SCRATCH = {"train alexnet", "train vgg", "train squeezenet"}
TRAININGS = {"train output", "train all", *FROM_SCRATCH}


def make_call(step: str, **changes: Any) -> Call:
    """The call of a step with some inputs changed."""
    task, inputs = STEPS[step]
    policy: Any = task.cache_policy
    return Call(policy.function, inputs | changes, policy.unkeyed)


def test_every_step_is_listed() -> None:
    modules = (fetching, preparing, training, evaluating, publishing)
    tasks = {each for module in modules for each in vars(module).values() if isinstance(each, Task)}
    assert tasks == {task for task, _ in STEPS.values()}
    for step, (task, inputs) in STEPS.items():
        assert inputs == caching.bind(task.fn, **inputs), step


# ---- the code

Compute = Callable[[], set[str]]


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """The key of each step."""
    return {step: make_call(step).key() for step in STEPS}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the code, to edit."""
    return copy_code(ROOT, tmp_path)


@pytest.fixture
def changed(code: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Compute:
    """Which steps have another key if the copy is the project; it is read anew."""

    def compute() -> set[str]:
        project = dataclasses.replace(fingerprint.PROJECT, root=code)
        for module in (fingerprint, caching):
            monkeypatch.setattr(module, "PROJECT", project)
        return {step for step in STEPS if make_call(step).key() != keys[step]}

    return compute


def test_keys_differ(keys: dict[str, str]) -> None:
    assert len(set(keys.values())) == len(STEPS)


def test_words_change_no_key(code: Path, changed: Compute) -> None:
    for path in sorted(code.rglob("*.py")):
        reword(path)
    assert changed() == set()


def test_adapters_and_support_change_no_key(code: Path, changed: Compute) -> None:
    for folder in ("tasks", "flows", "cnn/support"):
        for path in (code / folder).glob("*.py"):
            act(path)
    act(code / "cnn" / "__main__.py")
    assert changed() == set()


@pytest.mark.parametrize(
    ("modules", "steps"),
    [
        (["training/recipes"], set()),  # what a recipe says is an input of the steps that follow it
        (["data/sample"], {"draw sample"}),
        (["data/downloads"], DOWNLOADS),
        (["data/sources/zips", "data/sources/cifar"], {"open photos", "prepare"}),
        (["data/preparation"], {"prepare"}),
        (["training/augmentation"], FROM_SCRATCH),
        (["training/features"], {"embed", "train output", "train all"}),
        (["training/loop"], TRAININGS),
        (["training/scratch"], FROM_SCRATCH),
        (["training/transfer"], {"train output", "train all"}),
        (["training/metrics"], {*TRAININGS, "evaluate", "compare", "publish"}),
        (["evaluation/plots"], {"evaluate", "compare"}),
        (["publication/exports", "publication/publishing", "publication/model_card"], {"publish"}),
    ],
)
def test_code_changes_keys_of_its_steps(modules: list[str], steps: set[str], code: Path, changed: Compute) -> None:
    for module in modules:
        act(code / "cnn" / f"{module}.py")
    assert changed() == steps


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        ("nn.Conv2D(192, 5", "nn.Conv2D(193, 5", {"train alexnet"}),
        ("nn.Dense(512", "nn.Dense(513", {"train vgg"}),
        ('"vgg": Architecture(vgg, ', '"other": Architecture(vgg, 3), "vgg": Architecture(vgg, ', set()),
    ],
)
def test_a_layer_changes_the_key_of_its_network(
    old: str, new: str, steps: set[str], code: Path, changed: Compute
) -> None:
    replace(code / "cnn" / "networks" / "architectures.py", old, new)
    assert changed() == steps


@pytest.mark.parametrize(
    ("library", "some", "others"),
    [
        ("mxnet", {"embed", *TRAININGS, "evaluate", "publish"}, {"prepare", *DOWNLOADS}),
        ("pillow", {"prepare", "embed", "pack pixels", "evaluate", "draw sample"}, DOWNLOADS),
        ("pyarrow", {"prepare", "embed"}, {"draw sample", *DOWNLOADS}),
        ("matplotlib", {"evaluate", "compare"}, {*TRAININGS, "embed", "prepare"}),
        ("onnx", {"open weights", "embed"}, {"prepare", *FROM_SCRATCH}),
    ],
)
def test_libraries_change_keys_of_their_steps(
    library: str, some: set[str], others: set[str], changed: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == library else installed(name))
    found = changed()
    assert some <= found, some - found
    assert not others & found


@pytest.mark.parametrize("library", ["prefect", "pydantic", "requests", "tqdm"])
def test_libraries_that_compute_nothing_change_no_key(
    library: str, changed: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == library else installed(name))
    assert changed() == set()


# ---- the inputs


def variants(name: str, value: Any) -> Iterator[tuple[Any, bool]]:
    """Other values of an input, and whether they lead to another result."""
    if isinstance(value, Reference):
        yield value.model_copy(update={"digest": "another"}), True
        yield value.model_copy(update={"path": Path("/elsewhere"), "checksum": "another", "notes": ("Mind.",)}), False
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from ((value | {key: other}, matters) for other, matters in variants(name, each))
        yield value | {"more": reference("more")}, True
    elif isinstance(value, Devices):
        yield Devices(numbers=(3,)), False
        yield from ((Devices(kind=kind, numbers=numbers), True) for kind, numbers in (("gpu", (0,)), ("cpu", (0, 1))))
    elif isinstance(value, Placement):
        two = Devices(numbers=(0, 1))
        yield from ((Placement(devices=each, together=False), False) for each in (Devices(numbers=(3,)), two))
        yield Placement(devices=two, together=True), True
        yield Placement(devices=Devices(kind="gpu"), together=False), True
    elif name == "mirror":
        yield "http://127.0.0.1/", False
    elif name == "preprocessing":
        yield value.model_copy(update={"crop": 30}), True
    elif isinstance(value, Training):
        yield from ((value.replace(**{setting: other}), True) for setting, other in CHANGES.items())
    elif isinstance(value, Lineage):
        yield value.model_copy(update={"notes": ("Mind.",)}), True
    elif isinstance(value, bool):
        yield not value, True
    elif isinstance(value, int):
        yield value + 1, True
    else:
        yield "another", True


CHANGES = {"epochs": 3, "batch_size": 7, "learning_rate": 0.123, "label_smoothing": 0.3, "chosen_by": "accuracy"}


@pytest.mark.parametrize("step", list(STEPS))
def test_inputs_decide_by_their_content(step: str, keys: dict[str, str]) -> None:
    for name, value in STEPS[step][1].items():
        others = list(variants(name, value))
        assert others
        for other, matters in others:
            if other != value:
                assert (make_call(step, **{name: other}).key() != keys[step]) == matters, (name, other)


def test_photos_and_weights_do_not_depend_on_the_seed() -> None:
    for step in ("download photos", "open photos", "download weights", "open weights", "prepare"):
        assert "seed" not in STEPS[step][1]


# ---- the folders


def folder_of(step: str, kind: str = "training", *names: str, **changes: Any) -> Path:
    """The folder of the store that a step takes for itself."""
    call = make_call(step, **changes)
    with calling(call):
        return own_folder(call.inputs["store"], kind, *names)


def test_killed_training_is_found_by_all_it_depends_on(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"store": tmp_path}
    own = folder_of("train output", **inputs)
    assert own == folder_of("train output", **inputs) and own.parent == tmp_path / "training" and not own.exists()
    moved = WEIGHTS.model_copy(update={"path": Path("/elsewhere"), "notes": ("Mind.",)})
    assert folder_of("train output", **inputs, start=moved) == own
    others: list[dict[str, Any]] = [
        {"start": reference("other weights")}, {"seed": 1}, {"inputs": reference("other features")},
        {"dataset": reference("other photos")}, {"positive": "hotdog"}, {"devices": Devices(kind="gpu")},
        {"stage": hotdog_recipe(epochs=3).stages[0]},
    ]  # fmt: skip
    assert own not in {folder_of("train output", **inputs, **change) for change in others}


def test_features_of_all_datasets_share_a_folder(tmp_path: Path) -> None:
    def features(**changes: Any) -> Path:
        return folder_of("embed", "features", "weights", "views", "seed", "devices", store=tmp_path, **changes)

    assert features() == features(dataset=reference("more photos"))
    others: list[dict[str, Any]] = [
        {"weights": reference("other weights")},
        {"views": 5},
        {"seed": 1},
        {"devices": Devices(kind="gpu")},
    ]
    assert features() not in {features(**change) for change in others}
