"""Where a step keeps its results: a folder that only its own inputs lead to."""

from pathlib import Path
from typing import Any

from step_calls import WEIGHTS, make_call, reference

from cnn.support.backend import Devices
from cnn.training.recipes import hotdog_recipe
from tasks.caching import calling, own_folder


def folder_of(step: str, kind: str = "training", *names: str, **changes: Any) -> Path:
    """The folder of the store that a step takes for itself."""
    call = make_call(step, **changes)
    with calling(call):
        return own_folder(call.inputs["store"], kind, *names)


def test_killed_training_is_found_by_all_it_depends_on(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"store": tmp_path}
    own = folder_of("train head", **inputs)
    assert own == folder_of("train head", **inputs) and own.parent == tmp_path / "training" and not own.exists()
    moved = WEIGHTS.model_copy(update={"path": Path("/elsewhere"), "notes": ("Mind.",)})
    assert folder_of("train head", **inputs, weights=moved) == own
    others: list[dict[str, Any]] = [
        {"weights": reference("other weights")}, {"seed": 1}, {"inputs": reference("other features")},
        {"dataset": reference("other photos")}, {"positive": "hotdog"}, {"devices": Devices(kind="gpu")},
        {"stage": hotdog_recipe(center_only=True).stages[0]},
    ]  # fmt: skip
    assert own not in {folder_of("train head", **inputs, **change) for change in others}


def test_features_of_all_datasets_share_a_folder(tmp_path: Path) -> None:
    def features(**changes: Any) -> Path:
        return folder_of("embed", "features", "weights", "devices", store=tmp_path, **changes)

    assert features() == features(dataset=reference("more photos"))
    others: list[dict[str, Any]] = [
        {"weights": reference("other weights")},
        {"devices": Devices(kind="gpu")},
    ]
    assert features() not in {features(**change) for change in others}
