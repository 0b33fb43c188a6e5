import io
import json
import random
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.files import content_digest
from cnn.pictures import KEPT_SHORT_SIDE, NotAPictureError, decode, normalise
from cnn.preparation import prepare, side_of

Pixels = NDArray[np.uint8]
Files = dict[str, bytes]
CLASSES = ("hotdog", "not_hotdog")

# a smooth picture, so that JPEG changes little
Y, X = np.mgrid[0:48, 0:64]
SMOOTH = np.stack([X * 4, Y * 5, 255 - X * 2 - Y], axis=2).astype(np.uint8)
GREY = SMOOTH[..., 0]
ALPHA = np.where(X < 32, 255, 0).astype(np.uint8)


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def png(seed: int) -> bytes:
    return encode(Image.fromarray(noise(seed)))


def write_folder(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def split_files(*splits: str, count: int = 12) -> Files:
    names = [f"{split}/{label}/{n}.png" for split in splits for label in CLASSES for n in range(count)]
    return {name.lstrip("/"): png(seed) for seed, name in enumerate(names)}


def unsplit_files(count: int = 40) -> Files:
    return split_files("", count=count)


def names_of(dataset: Dataset) -> dict[str, str]:
    return {row.name: split for split in dataset.splits for row in dataset.rows(split)}


# ---- every kind of picture


def palette(transparency: int | None) -> bytes:
    image = Image.fromarray((X // 16).astype(np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 200, 0, 0, 0, 200, 0])
    return encode(image) if transparency is None else encode(image, transparency=transparency)


PALETTE = np.array([[10, 20, 30], [40, 50, 60], [200, 0, 0], [0, 200, 0]])
ON_WHITE = np.where(ALPHA[..., None] == 255, SMOOTH, 255)
GREY_ON_WHITE = np.repeat(np.where(ALPHA == 255, GREY, 255)[..., None], 3, axis=2)
BLACKENED = np.where(ALPHA[..., None] == 255, SMOOTH, 0).astype(np.uint8)
CMYK = np.concatenate([255 - SMOOTH, np.zeros_like(SMOOTH[..., :1])], axis=2)
SIXTEEN_BIT = (GREY.astype(np.uint16) * 257).astype("<u2")

MODES = {
    "RGB": (encode(Image.fromarray(SMOOTH)), SMOOTH),
    "RGB JPEG": (encode(Image.fromarray(SMOOTH), "JPEG", quality=100, subsampling=0), SMOOTH),
    "RGB WebP": (encode(Image.fromarray(SMOOTH), "WEBP", lossless=True), SMOOTH),
    "L": (encode(Image.fromarray(GREY)), np.repeat(GREY[..., None], 3, axis=2)),
    "LA": (encode(Image.fromarray(np.dstack([GREY, ALPHA]))), GREY_ON_WHITE),
    "RGBA": (encode(Image.fromarray(np.dstack([SMOOTH, ALPHA]))), ON_WHITE),
    "P": (palette(None), PALETTE[X // 16]),
    "P with transparency": (palette(2), np.where((X // 16 == 2)[..., None], 255, PALETTE[X // 16])),
    "RGB with transparent black": (encode(Image.fromarray(BLACKENED), transparency=(0, 0, 0)), ON_WHITE),
    "CMYK": (encode(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100), SMOOTH),
    "16 bit": (encode(Image.fromarray(SIXTEEN_BIT)), np.repeat(GREY[..., None], 3, axis=2)),
    "1 bit": (encode(Image.fromarray(X >= 32)), np.repeat((X >= 32)[..., None], 3, axis=2) * 255),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_comes_out_as_rgb(mode: str) -> None:
    data, expected = MODES[mode]
    kept = normalise(data)[1]
    for image in (decode(data), Image.open(io.BytesIO(kept))):
        assert image.mode == "RGB"
        assert image.size == (64, 48)
        difference = np.abs(np.asarray(image, np.int64) - expected)
        # JPEG rings at the sharp edges of what had to be encoded anew
        assert difference.mean() < 2, mode
    assert (kept == data) == (mode in ("RGB", "RGB JPEG"))


# Exif 2.3, tag 0x0112: how the stored picture is to be turned
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0})])
def test_pictures_come_out_upright(orientation: int, form: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(SMOOTH), form, **options, exif=exif)
    expected = UPRIGHT[orientation](SMOOTH)
    kept = normalise(data)[1]
    assert np.abs(np.asarray(decode(data), np.int64) - expected).mean() < 1
    stored = np.asarray(Image.open(io.BytesIO(kept)), np.int64)  # without regard to any EXIF
    assert np.abs(stored - expected).mean() < 2
    assert (kept == data) == (orientation == 1)


@pytest.mark.parametrize("form", ["ICO", "EPS"])
def test_forms_that_are_decoded_before_they_are_checked_are_refused(form: str) -> None:
    with pytest.raises(NotAPictureError, match="not a picture"):
        decode(encode(Image.fromarray(SMOOTH), form))


def test_large_pictures_are_kept_smaller_under_the_id_of_the_large_one() -> None:
    large = Image.fromarray(SMOOTH).resize((1600, 1200))
    picture_id, kept = normalise(encode(large))
    assert Image.open(io.BytesIO(kept)).size == (683, KEPT_SHORT_SIDE)
    assert picture_id == normalise(encode(large, "BMP"))[0]
    assert picture_id != normalise(kept)[0]


def test_the_id_is_of_size_and_pixels() -> None:
    assert normalise(png(1))[0] == normalise(encode(Image.fromarray(noise(1)), "TIFF"))[0]
    assert normalise(png(1))[0] != normalise(png(2))[0]
    black = [normalise(encode(Image.new("RGB", size)))[0] for size in ((4, 6), (6, 4))]
    assert black[0] != black[1]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


DAMAGED = {
    "text.jpg": (b"this is a text", "not a picture"),
    "empty.png": (b"", "not a picture"),
    "cut.jpg": (encode(Image.fromarray(SMOOTH), "JPEG")[:600], "damaged"),
    "bomb.png": (bomb(50_000, 50_000), "megapixels"),
    "large.png": (bomb(11_000, 10_000), "megapixels"),
    "long.png": (encode(Image.new("L", (70_000, 1))), "70000 × 1 px"),
    "strip.png": (encode(Image.new("L", (10, 600))), "50 times"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_picture_says_why(name: str) -> None:
    data, reason = DAMAGED[name]
    with pytest.raises(NotAPictureError, match=reason):
        normalise(data)


# ---- prepare


def test_a_source_with_three_splits_stays_as_it_is(tmp_path: Path) -> None:
    files = split_files("train", "val", "test", count=5)
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset")
    assert dataset.classes == CLASSES
    assert dataset.splits == ("train", "validation", "test")
    assert dataset.counts == {split: {"hotdog": 5, "not_hotdog": 5} for split in dataset.splits}
    assert "own" in dataset.split
    assert names_of(dataset) == {name: name.split("/")[0].replace("val", "validation") for name in files}
    assert Dataset.open(tmp_path / "dataset") == dataset


def test_rows_hold_the_pictures(tmp_path: Path) -> None:
    files = split_files("train", "validation", count=80)  # more than a row group and a batch hold
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset")
    for split in dataset.splits:
        rows = list(dataset.rows(split))
        assert {row.name: row.data for row in rows} == {n: files[n] for n in files if n.startswith(split)}
        assert [row.name for row in rows] == sorted(row.name for row in rows)
        assert [row.id for row in rows] == [normalise(row.data)[0] for row in rows]
        assert [dataset.classes[row.label] for row in rows] == [row.name.split("/")[1] for row in rows]
        ids, labels = dataset.ids_and_labels(split)
        assert (ids, labels.tolist()) == ([row.id for row in rows], [row.label for row in rows])
        assert labels.dtype == np.int64
        assert pq.ParquetFile(dataset.folder / f"{split}.parquet").metadata.row_group(0).num_rows == 64


def test_the_files_follow_the_hugging_face_convention(tmp_path: Path) -> None:
    prepare(write_folder(tmp_path / "photos", split_files("train", "validation")), tmp_path / "dataset")
    schema = pq.read_schema(tmp_path / "dataset/train.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "image": "struct<bytes: binary, path: string>",
        "label": "int64",
        "id": "string",
    }
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": list(CLASSES)}


def test_a_prepared_dataset_is_a_source(tmp_path: Path) -> None:
    files = split_files("train", "validation", "test")
    first = prepare(write_folder(tmp_path / "photos", files), tmp_path / "first")
    second = prepare(tmp_path / "first", tmp_path / "second")
    for split in first.splits:
        ids, labels = first.ids_and_labels(split)
        assert second.ids_and_labels(split)[0] == ids
        assert second.ids_and_labels(split)[1].tolist() == labels.tolist()


def test_a_source_without_a_split_is_divided_in_each_class(tmp_path: Path) -> None:
    dataset = prepare(write_folder(tmp_path / "photos", unsplit_files(200)), tmp_path / "dataset")
    for label in CLASSES:
        counts = {split: dataset.counts[split][label] for split in dataset.splits}
        assert sum(counts.values()) == 200
        assert 15 <= counts["test"] <= 45  # 30 expected, standard deviation 5
        assert 15 <= counts["validation"] <= 45
    assert "no split" in dataset.split
    assert "15%" in dataset.split


def test_train_gives_up_a_part_for_validation(tmp_path: Path) -> None:
    files = split_files("train", "test", count=60)
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset")
    in_test = {name for name, split in names_of(dataset).items() if split == "test"}
    assert in_test == {name for name in files if name.startswith("test")}
    assert 10 <= sum(dataset.counts["validation"].values()) <= 40  # 24 of 120 expected
    assert "20% of train became validation" in dataset.split


def test_a_picture_without_a_class_may_stand_anywhere_when_test_validates(tmp_path: Path) -> None:
    files = split_files("train", "test") | {"validation/loose.png": png(1000)}
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset", second_part_validates=True)
    assert {name for name, split in names_of(dataset).items() if split == "validation"} == {
        name for name in files if name.startswith("test/")
    }
    assert [each.name for each in dataset.left_out] == ["validation/loose.png"]


def test_a_class_without_test_pictures_is_said(tmp_path: Path) -> None:
    files = {name: data for name, data in split_files("train", "test").items() if not name.startswith("test/hotdog")}
    assert prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset").caveats == (
        "No test picture shows hotdog, so test figures say little: add pictures.",
    )


def test_a_source_without_test_says_so(tmp_path: Path) -> None:
    dataset = prepare(write_folder(tmp_path / "photos", split_files("train", "val")), tmp_path / "dataset")
    assert dataset.splits == ("train", "validation")
    assert "no test figures" in dataset.split
    assert not (tmp_path / "dataset/test.parquet").exists()


def test_a_side_is_a_share_of_the_ids() -> None:
    chance = random.Random(0)
    ids = [f"{chance.getrandbits(256):064x}" for _ in range(20_000)]
    sides = Counter(side_of(picture, None, {None}) for picture in ids)
    assert sides["test"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert sides["validation"] / 20_000 == pytest.approx(0.15, abs=0.01)
    sides = Counter(side_of(picture, "train", {"train", "test"}) for picture in ids)
    assert sides["validation"] / 20_000 == pytest.approx(0.2, abs=0.01)


@settings(max_examples=8, deadline=None)
@given(
    added=st.sets(st.tuples(st.sampled_from(CLASSES), st.integers(1000, 1050)), max_size=15),
    has_test=st.booleans(),
)
def test_adding_pictures_never_changes_the_side_of_others(
    added: set[tuple[str, int]], has_test: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("sides")
    files = split_files("train", "test", count=24) if has_test else unsplit_files(24)
    before = names_of(prepare(write_folder(place / "photos", files), place / "before"))
    parts = ["train/", "test/"] if has_test else [""]
    more = {f"{parts[seed % len(parts)]}{label}/0{seed}.png": png(seed) for label, seed in added}
    after = names_of(prepare(write_folder(place / "photos", more), place / "after"))
    assert {name: after[name] for name in before} == before
    assert after.keys() == files.keys() | more.keys()


def test_what_cannot_be_used_is_left_out_and_listed(tmp_path: Path) -> None:
    files = {**split_files("train", "val"), "train/notes.txt": b"?"}
    files |= {f"train/hotdog/{name}": data for name, (data, _) in DAMAGED.items()}
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset")
    left_out = {item.name: item.reason for item in dataset.left_out}
    assert left_out.pop("train/notes.txt") == "the source names no class for it"
    assert left_out.keys() == {f"train/hotdog/{name}" for name in DAMAGED}
    assert all(reason in left_out[f"train/hotdog/{name}"] for name, (_, reason) in DAMAGED.items())
    assert dataset.counts["train"] == {"hotdog": 12, "not_hotdog": 12}


def test_a_picture_stands_on_one_side_only(tmp_path: Path) -> None:
    files = split_files("train", "val", "test")
    saved_anew = encode(Image.fromarray(noise(500)), "BMP")
    files |= {
        "test/hotdog/a.png": png(500),
        "val/hotdog/b.bmp": saved_anew,
        "train/not_hotdog/c.bmp": saved_anew,
    }
    files |= {"val/hotdog/d.png": png(501), "train/hotdog/e.png": png(501)}
    files |= {"train/hotdog/f.png": png(502), "train/hotdog/g.png": png(502)}
    dataset = prepare(write_folder(tmp_path / "photos", files), tmp_path / "dataset")
    assert {item.name: item.same_as for item in dataset.duplicates} == {
        "val/hotdog/b.bmp": "test/hotdog/a.png",
        "train/not_hotdog/c.bmp": "test/hotdog/a.png",
        "train/hotdog/e.png": "val/hotdog/d.png",
    }
    sides = names_of(dataset)
    assert sides.keys() == files.keys() - {item.name for item in dataset.duplicates}
    assert sides["train/hotdog/f.png"] == sides["train/hotdog/g.png"] == "train"


def test_the_same_pictures_give_the_same_bytes_wherever_they_are(tmp_path: Path) -> None:
    files = {**unsplit_files(), "hotdog/x.jpg": b"text", "hotdog/grey.png": MODES["L"][0]}
    first = prepare(write_folder(tmp_path / "here", files), tmp_path / "first")
    shutil.copytree(tmp_path / "here", tmp_path / "else/where")
    second = prepare(tmp_path / "else/where", tmp_path / "deep/second")
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "here")
    third = prepare(Path(zipped), tmp_path / "first")  # replaces the first
    assert len({content_digest(dataset.folder) for dataset in (first, second, third)}) == 1
    write_folder(tmp_path / "else/where", {"hotdog/y.png": png(999)})
    other = prepare(tmp_path / "else/where", tmp_path / "other")
    assert content_digest(other.folder) != content_digest(first.folder)


TEXT = b"no picture"
UNUSABLE: dict[str, tuple[Files, str]] = {
    "no class": ({"1.png": png(1), "2.png": png(2)}, "expected a folder for each class"),
    "no class in the splits": (
        {"train/1.png": png(1), "test/2.png": png(2)},
        "expected a folder for each class",
    ),
    "one class": ({f"hotdog/{n}.png": png(n) for n in range(9)}, "only one, 'hotdog'"),
    "nothing but text": ({"a/1.jpg": TEXT, "b/2.jpg": TEXT}, "2 left out, such as a/1.jpg: not a picture"),
    "no train": (split_files("val", "test"), "found only test and validation"),
    "no validation picture": (
        {**split_files("train", "val"), "train/soup/1.png": png(800)},
        "class 'soup' has no picture for validation.* 0 of 'soup': add some to its validation part",
    ),
    "no train picture": (
        {**split_files("train", "val"), "val/soup/1.png": png(800)},
        "class 'soup' has no picture for train",
    ),
    "too few to divide": ({"a/1.png": png(1), "b/2.png": png(2)}, "has no picture for .*: add more pictures"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_error_is_one_sentence_and_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    files, words = UNUSABLE[case]
    source = write_folder(tmp_path / "photos", files)
    dataset = prepare(write_folder(tmp_path / "good", unsplit_files()), tmp_path / "store/dataset")
    digest = content_digest(dataset.folder)
    for folder in ("dataset", "new"):
        with pytest.raises(UserError, match=words) as error:
            prepare(source, tmp_path / "store" / folder)
        assert str(error.value).startswith(str(source))
        assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["dataset"]
    assert content_digest(dataset.folder) == digest


def test_what_is_no_dataset_cannot_be_opened(tmp_path: Path) -> None:
    for content in (None, "{}", "{", "[1]"):
        if content is not None:
            (tmp_path / "dataset.json").write_text(content)
        with pytest.raises(UserError, match="expected a prepared dataset"):
            Dataset.open(tmp_path)
