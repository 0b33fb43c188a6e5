"""A disk that is full while a version is written: the place is named, and nothing is left."""

from collections.abc import Callable
from pathlib import Path

import pytest
from candidates import Made, make_candidate
from disks import disk  # noqa: F401  (a fixture)

from cnn.data.datasets import Dataset
from cnn.publication import exports
from cnn.publication.champions import champion
from cnn.support.backend import mx
from cnn.support.errors import UserError, plain_errors


@pytest.fixture(scope="module")
def hotdog(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_candidate(tmp_path_factory.mktemp("hotdog"), drawn_dataset, 0)


# full in the report, the parameters, the symbol (which MXNet cuts off in silence), the parameters again, ONNX, the rest
@pytest.mark.parametrize("size", [20, 1000, 2860, 2900, 3000, 4000, 5690, 5800, 8000, 8500, 8550])
def test_full_disk_is_named(hotdog: Made, disk: Callable[..., Path], size: int) -> None:
    models = disk(size)
    refused = pytest.raises(UserError, match=rf"^Nothing more can be written at {models}/food: the disk is full")
    with refused, plain_errors():
        hotdog.publish(models)
    assert not list((models / "food").iterdir())
    disk(100_000)
    assert hotdog.publish(models) == champion(models / "food")


def test_full_disk_does_not_change_the_champion(hotdog: Made, disk: Callable[..., Path]) -> None:
    models = disk(100_000)
    first = hotdog.publish(models)
    (models / "filling").write_bytes(bytes(100_000 * 1024 - 13_000_000))
    with pytest.raises(UserError, match="the disk is full"), plain_errors():
        hotdog.of_other_data().publish(models)
    assert {path.name for path in (models / "food").iterdir()} == {"v0001", "champion.json"}
    assert champion(models / "food") == first


def test_error_of_mxnet_on_a_disk_with_space_is_ours(
    hotdog: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise mx.base.MXNetError("something else")

    monkeypatch.setattr(mx.nd, "save", fail)
    with pytest.raises(mx.base.MXNetError, match="something else"), plain_errors():
        hotdog.publish(tmp_path)
    monkeypatch.setattr(exports, "_LEFT", 1 << 62)  # as if the disk were full
    with pytest.raises(UserError, match=rf"^Nothing more can be written at {tmp_path}/food:"), plain_errors():
        hotdog.publish(tmp_path)
