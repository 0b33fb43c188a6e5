import errno
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from writers import png, write_parquet

from cnn.data.sources import open_source
from cnn.support.errors import UserError


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (pa.array([0, 1, -1]), ["cat", "dog"], ["cat", "dog", None]),
        (pa.array([0, 1, 5], pa.int32()), None, ["class 0", "class 1", "class 5"]),
        (pa.array(["cat", "dog", None]), None, ["cat", "dog", None]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), None, ["cat", "dog", "cat"]),
    ],
)
def test_labels_are_indices_or_names(
    labels: pa.Array, names: list[str] | None, expected: list[str], tmp_path: Path
) -> None:
    found = list(open_source(write_parquet(tmp_path / "a.parquet", labels, [b"1", b"2", None], names)).images())
    assert [image.label for image in found] == expected
    assert [image.data for image in found] == [b"1", b"2", b""]
    assert [image.name for image in found] == [f"a.parquet row {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"image": [b"raw"], "label": [0]}, {"image": [{"bytes": b""}]}])
def test_other_columns_are_refused(columns: dict[str, list[object]], tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected the columns image .* and label"):
        list(open_source(tmp_path).images())


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"PAR1", lambda data: b""])
def test_damaged_parquet_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0]), [png(0)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.parquet: expected a whole Parquet file"):
        list(open_source(path).images())


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 64 failed")], ids=repr)
def test_no_memory_is_not_damage(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_parquet(tmp_path / "a.parquet", pa.array([0]), [png(0)]))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(MemoryError):
        list(source.images())
    error = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(UserError, match=r"expected to read it, found Too many open files"):
        list(source.images())


def test_files_without_a_split_do_not_mix(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pa.array([0]), [png(0)])
    write_parquet(tmp_path / "more.parquet", pa.array([0]), [png(1)])
    with pytest.raises(UserError, match=r"more\.parquet"):
        list(open_source(tmp_path).images())
