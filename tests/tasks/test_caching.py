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
from step_calls import DOWNLOADS, EMBEDDING, FROM_SCRATCH, PREPARING, STEPS, TRAININGS, make_call, reference

from cnn.publication.manifest import Lineage
from cnn.support import fingerprint
from cnn.support.backend import Devices
from cnn.support.references import Reference
from cnn.support.remote import COPIES, local_path
from cnn.training.hyperparameters import HeadStage, Training
from tasks import caching, evaluating, fetching, preparing, publishing, scoring, training
from tasks.gpus import Placement


def test_every_step_is_listed() -> None:
    modules = (fetching, preparing, training, evaluating, publishing, scoring)
    tasks = {each for module in modules for each in vars(module).values() if isinstance(each, Task)}
    assert tasks == {task for task, _ in STEPS.values()}
    for step, (task, inputs) in STEPS.items():
        assert inputs == caching.bind(task.fn, **inputs), step


# ---- the code

Compute = Callable[..., set[str]]


def make_keys() -> dict[str, str]:
    """The key of each step."""
    return {step: make_call(step).key() for step in STEPS}


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """The key of each step of the project as it is."""
    return make_keys()


def differing(keys: dict[str, str]) -> set[str]:
    """Steps that have another key now."""
    return {step for step, key in make_keys().items() if key != keys[step]}


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
        return differing(keys)

    return compute


@pytest.fixture
def affected(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Compute]:
    """Which steps have another key if libraries of these names have another version."""

    def compute(*libraries: str) -> set[str]:
        installed = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name in libraries else installed(name))
        fingerprint._fingerprint.cache_clear()
        return differing(keys)

    yield compute
    fingerprint._fingerprint.cache_clear()


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
    act(code / "cnn" / "commands" / "classify.py")
    assert changed() == set()


@pytest.mark.parametrize(
    ("modules", "steps"),
    [
        (["training/recipes"], set()),  # what a recipe says is an input of the steps that follow it
        (["data/sample"], {"draw sample"}),
        (["data/downloads"], DOWNLOADS),
        (["data/sources/zips"], {"open photos", *PREPARING, "score"}),
        (["data/sources/cifar"], {"open photos", *PREPARING}),
        (["data/preparation"], PREPARING),
        (["training/augmentation"], FROM_SCRATCH),
        (["training/features"], {*EMBEDDING, "train head", "train output", "evaluate"}),
        (["training/head"], {"train head", "train output"}),
        (["training/loop"], TRAININGS),
        (["training/scratch"], FROM_SCRATCH),
        (["training/transfer"], {"train head", "train output"}),
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
        ("mxnet", {*EMBEDDING, *TRAININGS, "evaluate", "publish"}, {"prepare", "download photos"}),
        ("pillow", {*PREPARING, *EMBEDDING, "pack pixels", "evaluate", "draw sample"}, DOWNLOADS),
        ("pyarrow", {*PREPARING, *EMBEDDING}, {"draw sample", *DOWNLOADS}),
        ("matplotlib", {"evaluate", "compare"}, {*TRAININGS, "embed", "prepare"}),
        ("onnx", {"open weights", *EMBEDDING}, {"prepare", *FROM_SCRATCH}),
        ("onnxruntime", {*EMBEDDING, "evaluate", "publish"}, {"prepare", *FROM_SCRATCH}),
        ("scikit-learn", {"train head"}, {"prepare", "embed", *FROM_SCRATCH}),
    ],
)
def test_libraries_change_keys_of_their_steps(
    library: str, some: set[str], others: set[str], affected: Compute
) -> None:
    found = affected(library)
    assert some <= found, some - found
    assert not others & found


def test_libraries_that_compute_nothing_change_no_key(affected: Compute) -> None:
    assert affected("prefect", "pydantic", "requests", "tqdm") == set()


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
    elif isinstance(value, list):
        yield [*value, 7], True
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
        yield dataclasses.replace(value, crop=30), True
    elif isinstance(value, Training):
        yield from ((value.replace(**{setting: other}), True) for setting, other in CHANGES.items())
    elif isinstance(value, HeadStage):
        yield from ((value.replace(**{setting: other}), True) for setting, other in HEAD_CHANGES.items())
    elif isinstance(value, Lineage):
        yield value.model_copy(update={"notes": ("Mind.",)}), True
    elif isinstance(value, bool):
        yield not value, True
    elif isinstance(value, int):
        yield value + 1, name not in ("number", "count")
    else:
        yield "another", True


CHANGES = {"epochs": 3, "batch_size": 7, "learning_rate": 0.123, "label_smoothing": 0.3, "chosen_by": "accuracy"}
HEAD_CHANGES = {
    "mirrored_mean": False,
    "strengths": (0.1,),
    "folds": 3,
    "class_weights": "equal",
    "keep_validation": True,
}


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


def test_store_at_an_address_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = []
    for machine in ("one", "another"):
        monkeypatch.setenv(COPIES, str(tmp_path / machine))
        keys.append(make_call("prepare", store=local_path("s3://bucket/store")).key())
    assert len(set(keys)) == 1
