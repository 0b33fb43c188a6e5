import errno
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from writers import CLASSES, Files, encode, labelled_files, png, write_folder

from cnn.data.datasets import Dataset, Row, SplitWriter
from cnn.data.decoding import decode
from cnn.data.images import normalise
from cnn.data.preparation import prepare
from cnn.support.errors import UserError


def prepared(place: Path, files: Files) -> Dataset:
    return prepare(write_folder(place / "photos", files), place / "dataset")


def test_rows_hold_the_images(tmp_path: Path) -> None:
    files = labelled_files("train", "validation", count=80)  # more than a row group and a batch hold
    dataset = prepared(tmp_path, files)
    for split in dataset.splits:
        rows = list(dataset.rows(split))
        assert {row.name: row.data for row in rows} == {n: files[n] for n in files if n.startswith(split)}
        assert [row.name for row in rows] == sorted(row.name for row in rows) == dataset.names(split)
        assert [row.id for row in rows] == [normalise(row.data)[0] for row in rows]
        assert [dataset.classes[row.label] for row in rows] == [row.name.split("/")[1] for row in rows]
        ids, labels = dataset.ids_and_labels(split)
        assert (ids, labels.tolist()) == ([row.id for row in rows], [row.label for row in rows])
        assert labels.dtype == np.int64
        assert pq.ParquetFile(dataset.path(split)).metadata.row_group(0).num_rows == 64


def test_files_follow_hugging_face(tmp_path: Path) -> None:
    schema = pq.read_schema(prepared(tmp_path, labelled_files("train", "validation", count=2)).path("train"))
    assert {field.name: str(field.type) for field in schema} == {
        "image": "struct<bytes: binary, path: string>",
        "label": "int64",
        "id": "string",
    }
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": list(CLASSES)}


def test_a_dataset_is_a_source(tmp_path: Path) -> None:
    first = prepared(tmp_path, labelled_files("train", "validation", "test", count=12))
    second = prepare(tmp_path / "dataset", tmp_path / "second")
    for split in first.splits:
        ids, labels = first.ids_and_labels(split)
        assert second.ids_and_labels(split)[0] == ids
        assert second.ids_and_labels(split)[1].tolist() == labels.tolist()


def test_an_opened_dataset_is_the_same(tmp_path: Path) -> None:
    files = labelled_files("train", "val", count=3) | {"train/hotdog/ä.txt": b"?"}
    dataset = prepared(tmp_path, files)
    assert dataset == Dataset.open(tmp_path / "dataset") == Dataset.open(str(tmp_path / "dataset"))


@pytest.mark.parametrize("content", [None, "{}", "{", "[1]"])
def test_no_dataset_cannot_be_opened(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="expected a prepared dataset"):
        Dataset.open(tmp_path)


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    files = labelled_files("train", "val", count=3)
    digest = prepared(tmp_path / "here", files).digest()
    elsewhere = prepared(tmp_path / "else/where", files)
    report = elsewhere.folder / "dataset.json"
    reworded = json.loads(report.read_text(encoding="utf-8")) | {"split_origin": "Otherwise.", "caveats": ["Beware."]}
    report.write_text(json.dumps(reworded), encoding="utf-8")
    assert Dataset.open(elsewhere.folder).digest() == digest

    def with_image(name: str, data: bytes) -> Files:
        return {file: content for file, content in files.items() if file != "val/hotdog/0.png"} | {name: data}

    first = files["val/hotdog/0.png"]
    changes = {
        "image": with_image("val/hotdog/0.png", png(99)),
        "encoding": with_image("val/hotdog/0.png", encode(decode(first), compress_level=0)),
        "label": with_image("val/not_hotdog/00.png", first),
        "name": with_image("val/hotdog/00.png", first),
        "split": with_image("train/hotdog/00.png", first),
        "class name": {name.replace("not_hotdog", "soup"): data for name, data in files.items()},
    }
    digests = {prepared(tmp_path / change, changed).digest() for change, changed in changes.items()}
    assert len(digests | {digest}) == len(changes) + 1


def test_full_disk_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"), SplitWriter(tmp_path / "a.parquet", ("a", "b")) as writer:
        for number in range(100):
            writer.add(Row(str(number), 0, "name", b"data"))
