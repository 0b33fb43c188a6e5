"""Edited tables of labels: the same as if the images had been moved or deleted; what is wrong with one is said."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preparations import names_of
from writers import CLASSES, labelled_files, png, write_folder

from cnn.data.corrections import read_labels
from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare
from cnn.support.digests import content_digest
from cnn.support.errors import UserError

HOTDOG, OTHER = CLASSES


def write_csv(path: Path, rows: dict[str, str], separator: str = ",") -> Path:
    lines = [separator.join(("rank", "file", "label")), *(separator.join(("7", *row)) for row in rows.items())]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def members(dataset: Dataset) -> set[tuple[str, str, str]]:
    """Split, id and class of each image."""
    return {(split, row.id, dataset.classes[row.label]) for split in dataset.splits for row in dataset.rows(split)}


@settings(max_examples=8, deadline=None)
@given(
    edits=st.dictionaries(st.integers(0, 95), st.sampled_from([*CLASSES, "", "-", f" {HOTDOG} "]), max_size=12),
    splits=st.sampled_from([("",), ("train", "test"), ("train", "val", "test")]),
)
def test_a_table_does_what_moving_files_does(
    edits: dict[int, str], splits: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("labels")
    files = labelled_files(*splits, count=48 // len(splits))
    rows = {name: edits[number] for number, name in enumerate(files) if number in edits}
    moved = {}
    for number, (name, data) in enumerate(files.items()):
        given_ = rows.get(name, name.split("/")[-2]).strip()
        if given_ not in ("", "-"):
            *split, _, _ = name.split("/")
            moved["/".join((*split, given_, f"{number}.png"))] = data
    table = write_csv(place / "labels.csv", rows)
    dataset = prepare(write_folder(place / "photos", files), place / "one", labels=table)
    expected = prepare(write_folder(place / "moved", moved), place / "two")
    assert members(dataset) == members(expected) and dataset.counts == expected.counts
    assert {each.name for each in dataset.left_out} == {name for name, label in rows.items() if label in ("", "-")}
    changed = {
        name for name, label in rows.items() if label.strip() in CLASSES and label.strip() not in name.split("/")
    }
    assert bool(dataset.caveats) == bool(changed or dataset.left_out)


def test_an_unedited_table_changes_nothing(tmp_path: Path) -> None:
    files = labelled_files("train", "val", count=3)
    source = write_folder(tmp_path / "photos", files)
    table = write_csv(tmp_path / "labels.csv", {name: name.split("/")[1] for name in files})
    digests = {content_digest(prepare(source, tmp_path / "dataset", labels=labels).folder) for labels in (None, table)}
    assert len(digests) == 1


def test_what_was_changed_is_counted_and_changes_the_digest(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "photos", labelled_files("train", "val", count=4))
    table = write_csv(
        tmp_path / "labels.csv",
        {f"train/{HOTDOG}/0.png": OTHER, f"train/{HOTDOG}/1.png": OTHER, "val/hotdog/0.png": "-"},
    )
    plain, dataset = prepare(source, tmp_path / "plain"), prepare(source, tmp_path / "corrected", labels=table)
    assert dataset.digest() != plain.digest()
    (caveat,) = dataset.caveats
    assert caveat.endswith("changed 2 labels and removed 1 image.")
    assert [(each.name, each.reason) for each in dataset.left_out] == [
        ("val/hotdog/0.png", "removed by the table of labels")
    ]


def test_a_table_settles_which_of_two_labels_is_right(tmp_path: Path) -> None:
    both = {f"train/{label}/same.png": png(900) for label in CLASSES}
    source = write_folder(tmp_path / "photos", labelled_files("train", "val", count=3) | both)
    table = write_csv(tmp_path / "labels.csv", {f"train/{OTHER}/same.png": HOTDOG})
    assert len(prepare(source, tmp_path / "plain").left_out) == 2
    dataset = prepare(source, tmp_path / "corrected", labels=table)
    assert not dataset.left_out and not dataset.conflicts and set(both) <= names_of(dataset).keys()


def test_a_class_may_be_called_a_dash(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "photos", {f"{label}/{n}{label}.png": png(n) for label in "-" for n in range(5)})
    write_folder(source, {f"cat/{n}.png": png(100 + n) for n in range(5)})
    dataset = prepare(source, tmp_path / "dataset", labels=write_csv(tmp_path / "a.csv", {"cat/0.png": "-"}))
    assert sum(counts["-"] for counts in dataset.counts.values()) == 6 and not dataset.left_out


# ---- how tables are written

ROWS = {"a/1.png": "cat", 'b/"2", ü.png': "", "c/3.png": "NA", "d/4.png": "-", "e/5.png": "7"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(("start", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_csv_of_any_spreadsheet_is_read(separator: str, start: str, end: str, tmp_path: Path) -> None:
    lines = [f"file{separator}rank{separator}label"]
    lines += [separator.join(('"{}"'.format(file.replace('"', '""')), "1", label)) for file, label in ROWS.items()]
    (tmp_path / "a.csv").write_bytes((start + end.join(lines) + end).encode())
    assert read_labels(tmp_path / "a.csv") == ROWS


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_is_read_under_any_name(type_: pa.DataType, tmp_path: Path) -> None:
    labels = pa.array([label or None for label in ROWS.values()]).cast(type_)
    pq.write_table(pa.table({"file": list(ROWS), "label": labels, "rank": [1] * len(ROWS)}), tmp_path / "table")
    assert read_labels(tmp_path / "table") == ROWS


# ---- mistakes

WRONG: dict[str, tuple[bytes, str]] = {
    "unknown file": (
        b"file,label\nnowhere.png,hotdog\nelse.png,-\n",
        "expected names of images in .*photos, .* found 'nowhere.png' and 1 more: correct the names",
    ),
    "unknown class": (
        b"file,label\ntrain/hotdog/0.png,soup\n",
        "one of the classes hotdog, not_hotdog, or - to remove an image, found 'soup' for train/hotdog/0.png: correct",
    ),
    "two labels": (
        b"file,label\ntrain/hotdog/0.png,hotdog\ntrain/hotdog/0.png,\n",
        "expected one label for each file, found 'hotdog' and '' for train/hotdog/0.png: keep one",
    ),
    "no label column": (b"file,suggestion\na,b\n", "expected the columns file and label, found file, suggestion:"),
    "a column twice": (b"file,label,label\na,b,c\n", "expected the columns file and label, found file, label, label:"),
    "empty": (b"", "found: Empty CSV file; check the path, or save it anew"),
    "ragged": (b"file,label\na\n", "Expected 2 columns, got 1"),
    "not UTF-8": (b"file,label\n\xfc,b\n", "invalid UTF8"),
    "cut off": (b"PAR1" + bytes(40), "expected a table in CSV .UTF-8. or Parquet"),
    "all of a class removed": (
        b"file,label\n" + b"".join(b"val/hotdog/%d.png,-\n" % n for n in range(3)),
        "class 'hotdog' has no image for validation; .*removed by the table",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_refused_in_a_sentence(case: str, tmp_path: Path) -> None:
    content, words = WRONG[case]
    source = write_folder(tmp_path / "photos", labelled_files("train", "val", count=3))
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=words) as refused:
        prepare(source, tmp_path / "dataset", labels=tmp_path / "labels.csv")
    assert "\n" not in str(refused.value) and not (tmp_path / "dataset").exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in (("no.csv", "No such file"), ("", "a folder and not a file"), ("pipe.csv", "a named pipe")):
        with pytest.raises(UserError, match=f"^labels .*: expected a table .* found: .*{words}.*; check the path"):
            read_labels(tmp_path / name)


@settings(deadline=None)
@given(content=st.binary(max_size=60), start=st.sampled_from([b"", b"PAR1", b"file,label\n", b"label;file\n"]))
def test_any_bytes_are_a_table_or_a_sentence(
    content: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.csv"
    path.write_bytes(start + content)
    try:
        assert all(isinstance(text, str) for row in read_labels(path).items() for text in row)
    except UserError as refused:
        assert "\n" not in str(refused)
