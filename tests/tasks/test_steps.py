"""What every step has: names for its artifacts, and retries of what can succeed."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow

from cnn.datasets import Dataset
from cnn.errors import PassingError, UserError
from cnn.files import Reference
from tasks.steps import artifact_key, open_dataset, step


@given(st.text(), st.text())
def test_artifact_keys_are_what_prefect_takes(first: str, second: str) -> None:
    key = artifact_key("progress", first, second)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and key.startswith("progress")


def test_what_another_run_has_replaced_is_not_used(drawn_dataset: Dataset, tmp_path: Path) -> None:
    folder = shutil.copytree(drawn_dataset.folder, tmp_path / "dataset")
    reference = Reference.to(folder, "dataset")
    assert open_dataset(reference).counts == drawn_dataset.counts
    (folder / "test.parquet").unlink()
    with pytest.raises(UserError, match=r"dataset was replaced by another run .* run the same command again\."):
        open_dataset(reference)


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (PassingError("a dead network"), 3),
        (ValueError("a mistake of ours"), 1),
        (UserError("a wrong hash"), 1),
    ],
)
def test_only_what_can_succeed_is_tried_again(tmp_path: Path, error: Exception, tries: int) -> None:
    tried = []

    @step("fail")
    def fail(file: Path) -> Reference:
        tried.append(file)
        raise error

    @flow
    def failing() -> None:
        fail.with_options(retries=2, retry_delay_seconds=0)(tmp_path)

    with pytest.raises(type(error)):
        failing()
    assert len(tried) == tries
