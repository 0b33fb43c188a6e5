"""A few damaged files for each reader of archives; tests/fuzz.py tries more."""

from pathlib import Path

import pytest
from cifar_batches import small_batches  # noqa: F401
from fuzz import outcome, readers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

READERS = ("zip", "records", "cifar", "parquet")


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    if not (tmp_path / "whole").exists():
        (tmp_path / "whole").mkdir()
        (tmp_path / "damaged").mkdir()
    inputs, write = readers(tmp_path / "whole")[reader]
    assert outcome(write(tmp_path / "damaged", data.draw(inputs))) in ("read", "refused")


def test_all_readers_are_tried(tmp_path: Path) -> None:
    assert set(readers(tmp_path)) == set(READERS)
