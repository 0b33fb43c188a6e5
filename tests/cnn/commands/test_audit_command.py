"""``python -m cnn audit``: what is planted among drawn images is found, and the page stands alone."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from candidates import explained  # noqa: F401  (a fixture)
from conftest import write_images
from PIL import Image
from pyarrow import csv

from cnn.__main__ import main
from cnn.support.errors import UserError

TABLES = ("labels", "duplicates", "outliers")
NAME = "<b>&'\".jpg"
CORRECTED = "train/hotdog/0007.jpg"


@dataclass
class Audited:
    """The images, the folder that an audit of them filled, and what it printed."""

    data: Path
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def audited(drawn: Path, weights_file: Path, explained: Path, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folder = tmp_path_factory.mktemp("audit")
    data = folder / "photos"
    shutil.copytree(drawn, data)
    hotdog = data / "train" / "hotdog" / "0000.jpg"
    Image.open(hotdog).save(data / "test" / "not_hotdog" / "near.jpg", quality=40)
    shutil.copy(data / "test" / "hotdog" / "0200.jpg", data / "train" / "hotdog" / "same.jpg")
    Image.open(hotdog).point(lambda value: value // 10).save(data / "train" / "hotdog" / NAME)
    (folder / "corrected.csv").write_text(f"file,label\n{CORRECTED},not_hotdog\n")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda line: lines.append(line))
        places = ["--output", str(folder / "out"), "--weights", str(weights_file)]
        against = ["--against", "food", "--models", str(explained)]
        main(["audit", str(data), *places, "--labels", str(folder / "corrected.csv"), *against])
    return Audited(data, folder / "out", "\n".join(lines))


def table(audited: Audited, name: str) -> list[dict[str, Any]]:
    return pq.read_table(audited.folder / f"{name}.parquet").to_pylist()


def test_every_image_is_ranked(audited: Audited) -> None:
    rows = table(audited, "labels")
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1)) == list(range(1, 35))
    assert {row["file"] for row in rows} == {
        str(path.relative_to(audited.data)) for path in audited.data.rglob("*.jpg") if path.name != "same.jpg"
    }
    suspects = [row["suggestion"] is not None for row in rows]
    assert suspects == sorted(suspects, reverse=True)
    assert all(row["suggestion"] != row["label"] and 0 <= row["probability_of_label"] <= 1 for row in rows)


def test_corrected_labels_are_audited(audited: Audited) -> None:
    assert {row["file"] for row in table(audited, "labels") if row["label"] not in row["file"].split("/")} == {
        CORRECTED
    }


def test_copies_in_other_splits_and_classes_are_found(audited: Audited) -> None:
    groups: dict[int, set[Any]] = {}
    for row in table(audited, "duplicates"):
        groups.setdefault(row["group"], set()).add((row["file"], row["split"]))
    found = list(groups.values())
    assert any({("train/hotdog/0000.jpg", "train"), ("test/not_hotdog/near.jpg", "test")} <= each for each in found)
    assert any({("test/hotdog/0200.jpg", "test"), ("train/hotdog/same.jpg", None)} <= each for each in found)


def test_flawed_images_are_named(audited: Audited) -> None:
    assert (f"train/hotdog/{NAME}", "dark") in {(row["file"], row["reason"]) for row in table(audited, "outliers")}


@pytest.mark.parametrize("name", TABLES)
def test_csv_says_what_parquet_says(audited: Audited, name: str) -> None:
    options = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    assert csv.read_csv(audited.folder / f"{name}.csv", convert_options=options).to_pylist() == table(audited, name)


def test_page_stands_alone(audited: Audited) -> None:
    page = (audited.folder / "audit.html").read_text(encoding="utf-8")
    assert all(
        source.startswith("data:image/jpeg;base64,") for source in re.findall(r'(?:src|href)="([^#][^"]*)"', page)
    )
    assert "://" not in page and "<script" not in page and "url(" not in page
    assert "<b>" not in page and "&lt;b&gt;&amp;" in page
    assert len(page) < 2_000_000


def test_counts_are_printed(audited: Audited) -> None:
    assert "34 images" in audited.printed and "1 dark" in audited.printed and "audit.html" in audited.printed


def test_drift_is_said(audited: Audited) -> None:
    """Of the three files that were added, one is a copy."""
    assert "2 images are new since v0001: 2 (100%) are unlike all that it learnt from" in audited.printed
    assert "2 images are new since v0001" in (audited.folder / "audit.html").read_text(encoding="utf-8")


# ---- mistakes


def refused(*arguments: object) -> str:
    with pytest.raises(UserError) as refusal:
        main(["audit", *map(str, arguments)])
    return str(refusal.value)


def test_a_folder_with_files_is_left_alone(audited: Audited, weights_file: Path) -> None:
    sentence = refused(audited.data, "--output", audited.data, "--weights", weights_file)
    assert sentence.endswith("expected a new or an empty folder, found one with files: name another.")


def test_too_few_images_are_refused_and_nothing_is_left(weights_file: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "few" / "train", 2)
    write_images(tmp_path / "few" / "validation", 1, first=10)
    sentence = refused(tmp_path / "few", "--output", tmp_path / "out", "--weights", weights_file)
    assert sentence.startswith("class hotdog: expected 5 different images or more, found 3")
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "--output", tmp_path / "out", "--weights", "none.params")
    assert "no such file" in sentence and "imagenet" in sentence
