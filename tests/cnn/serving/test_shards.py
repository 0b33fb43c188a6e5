"""How an input is listed and cut: every image once, in order, and a change changes one shard."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import KINDS, as_parquet, names_in, photos  # noqa: F401  (a fixture)

from cnn.serving import shards
from cnn.serving.shards import FileShard, cut
from cnn.support.errors import UserError


@pytest.mark.parametrize("kind", ["folder", *KINDS])
@pytest.mark.parametrize("most", [1, 5, 100])
def test_every_image_is_in_one_shard(kind: str, most: int, photos: Path, tmp_path: Path) -> None:
    names = names_in(photos)
    found = cut(photos if kind == "folder" else KINDS[kind](photos, names, tmp_path), most)
    assert all(0 < len(shard.names) <= most for shard in found) and len({shard.digest for shard in found}) == len(found)
    images = [(name, read()) for shard in found for name, read in shard.images()]
    assert [data for _, data in images] == [(photos / name).read_bytes() for name in names]
    titles = {
        "parquet": [f"photos.parquet row {row}" for row in range(1, len(names) + 1)],
        "list": [str(photos / name) for name in names],
    }
    assert [name for name, _ in images] == titles.get(kind, names)


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(0, 5000), st.integers(1, 300))
def test_one_image_more_changes_few_shards(numbers: set[int], more: int, most: int) -> None:
    def lists(of: set[int]) -> set[tuple[str, ...]]:
        names = [f"{number:04}.jpg" for number in sorted(of)]
        return {shard.names for shard in shards._of_names(FileShard, Path(), names, most)}

    before, after = lists(numbers - {more}), lists(numbers | {more})
    assert all(len(names) <= most for names in after)
    if most > len(numbers):  # so that no shard is full
        assert len(before - after) <= 1 and len(after - before) <= 2


def test_content_decides_and_not_the_place(photos: Path, tmp_path: Path) -> None:
    before = {shard.digest for shard in cut(photos, 4)}
    moved = photos.rename(tmp_path / "moved")
    assert {shard.digest for shard in cut(moved, 4)} == before
    (moved / "empty.png").write_bytes(b"something")
    assert len({shard.digest for shard in cut(moved, 4)} - before) == 1


def test_folder_of_parquet_is_read(photos: Path, tmp_path: Path) -> None:
    names = names_in(photos)
    (folder := tmp_path / "dataset").mkdir()
    for number, part in enumerate((names[:5], names[5:])):
        as_parquet(photos, part, folder).rename(folder / f"{number}.parquet")
    read = [read() for shard in cut(folder, 4) for _, read in shard.images()]
    assert read == [(photos / name).read_bytes() for name in names]


def test_lists_name_files_beside_them_and_anywhere(photos: Path) -> None:
    (photos / "list").write_bytes("\ufeff0100.jpg\n\ntest/hotdog/0200.jpg\nno such.jpg\r\n".encode())
    (shard,) = cut(photos / "list", 100)
    assert shard.names == ("0100.jpg", "test/hotdog/0200.jpg", "no such.jpg")
    before = shard.digest
    (photos / "0100.jpg").rename(photos / "no such.jpg")
    assert cut(photos / "list", 100)[0].digest != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "found nothing: check the path"),
        ("a.zip", b"PK no zip", "expected a whole zip file, found damage"),
        ("a.parquet", b"PAR1 no table", "expected a whole Parquet file, found damage"),
        ("photo.jpg", b"\xff\xd8\0", "found a file that is none of these"),
        ("empty.txt", b"\n \n", "found no image"),
    ],
)
def test_what_holds_no_images_is_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        cut(tmp_path / name, 100)
    assert str(refused.value).startswith(str(tmp_path / name))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"expected a folder of images, .* found no image"):
        cut(tmp_path, 100)
