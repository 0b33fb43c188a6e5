"""Labels in Parquet: their names in Hugging Face's metadata, their types, the columns that they are in."""

import json
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


def write_metadata(path: Path, metadata: str, labels: pa.Array) -> Path:
    write_parquet(path, labels, [png(number) for number in range(len(labels))])
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": metadata}), path)
    return path


def described(names: object) -> str:
    return json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}})


WRONG_NAMES = {
    "a dict": described({"0": "cat", "1": "dog"}),
    "a text": described("cat"),
    "a number": described(2),
    "yes or no": described(True),
    "numbers": described([0, 1]),
    "nested lists": described([["cat"], ["dog"]]),
    "some null": described(["cat", None]),
    "one name twice": described(["cat", "cat"]),
    "a list for the label": json.dumps({"info": {"features": {"label": ["cat", "dog"]}}}),
    "a text for the label": json.dumps({"info": {"features": {"label": "ClassLabel"}}}),
    "a list of features": json.dumps({"info": {"features": [{"name": "label"}]}}),
    "a list": "[]",
    "no JSON": "{",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_wrong_names_of_labels_are_refused(case: str, tmp_path: Path) -> None:
    source = open_source(write_metadata(tmp_path / "a.parquet", WRONG_NAMES[case], pa.array([0, 1])))
    for read in (source.counts, lambda: list(source.images())):
        with pytest.raises(UserError, match=r"a\.parquet: expected a list of different texts .*, found ") as error:
            read()
        assert len(str(error.value)) < 400 + len(str(tmp_path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "metadata", [described(None), json.dumps({"info": {"features": None}}), "{}", "null", json.dumps({"info": {}})]
)
def test_without_names_labels_are_numbers(metadata: str, tmp_path: Path) -> None:
    labels = pa.array([0, 7, -3, 2**62, None])
    found = open_source(write_metadata(tmp_path / "a.parquet", metadata, labels)).images()
    assert [image.label for image in found] == ["class 0", "class 7", None, f"class {2**62}", None]


def test_names_do_not_matter_to_labels_that_are_texts(tmp_path: Path) -> None:
    found = open_source(write_metadata(tmp_path / "a.parquet", described(3), pa.array(["cat", "dog"]))).images()
    assert [image.label for image in found] == ["cat", "dog"]


def test_labels_beyond_the_names_mean_no_class(tmp_path: Path) -> None:
    labels = pa.array([0, 1, 2, -1, 2**63 - 1, None])
    found = open_source(write_metadata(tmp_path / "a.parquet", described(["cat", "dog"]), labels)).images()
    assert [image.label for image in found] == ["cat", "dog", None, None, None, None]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([True, False]),
        pa.array([0.0, 1.0]),
        pa.array([[0], [1]]),
        pa.array([None, None]),
        pa.array([b"cat", b"dog"]),
        pa.array([{"name": "cat"}, {"name": "dog"}]),
        pa.array([0, 1], pa.timestamp("s")),
    ],
    ids=lambda labels: str(labels.type),
)
def test_labels_of_another_type_are_refused(labels: pa.Array, tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path / "a.parquet", labels, [png(0), png(1)]))
    for read in (source.counts, lambda: list(source.images())):
        with pytest.raises(
            UserError, match=r"a\.parquet: expected the columns image .* and label .*, found image .*label"
        ):
            read()


@pytest.mark.parametrize("bytes_name", ["rawbytes", "data"])
def test_images_without_bytes_are_refused(bytes_name: str, tmp_path: Path) -> None:
    images = pa.array(
        [{bytes_name: b"", "path": "a.png"}], pa.struct([(bytes_name, pa.binary()), ("path", pa.string())])
    )
    pq.write_table(pa.table({"image": images, "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected the columns image"):
        list(open_source(tmp_path).images())


def test_two_columns_of_labels_are_refused(tmp_path: Path) -> None:
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", pa.array([0, 1]), [png(0), png(1)]))
    pq.write_table(table.append_column("label", pa.array([1, 0])), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected the columns image"):
        list(open_source(tmp_path).images())
