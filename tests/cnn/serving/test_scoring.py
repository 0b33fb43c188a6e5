"""Scores equal what the predictor answers one by one; what cannot be read is listed with the reason."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidates import explained  # noqa: F401  (a fixture)
from scored import KINDS, expected, names_in, photos  # noqa: F401  (a fixture)

from cnn.serving.predictor import Predictor
from cnn.serving.scoring import Summary, describe, join_scores, require_replaceable, save_scores, score
from cnn.serving.shards import cut
from cnn.support.errors import UserError


@pytest.fixture(scope="module")
def predictor(explained: Path) -> Predictor:
    return Predictor.champion(explained)


def score_to(path: Path, source: Path, predictor: Predictor, most: int = 5) -> pa.Table:
    """The scores of an input, shard by shard, as `flows.score` joins them."""
    parts = []
    for number, shard in enumerate(cut(source, most)):
        parts.append(path.with_name(f"{number}.parquet"))
        save_scores(parts[-1], score(predictor, shard.images()), predictor)
    join_scores(parts, path)
    return pq.read_table(path)


@pytest.mark.parametrize("kind", ["folder", *KINDS])
def test_scores_are_the_predictors_answers(kind: str, photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    names = names_in(photos)
    source = photos if kind == "folder" else KINDS[kind](photos, names, tmp_path)
    rows = score_to(tmp_path / "scores.parquet", source, predictor).to_pylist()
    assert len(rows) == len(names) == 14
    for row, data in zip(rows, [(photos / name).read_bytes() for name in names], strict=True):
        assert row.pop("name") and row.pop("version") == "v0001"
        assert row.pop("digest") == hashlib.sha256(data).hexdigest()
        assert row == expected(predictor, data)
    summary = Summary.of(tmp_path / "scores.parquet")
    assert sum(summary.counts.values()) == 12 and summary.unreadable == len(summary.problems) == 2
    assert summary.novel == sum(row["novel"] is True for row in rows)
    assert summary.sentence.startswith("14 images scored by food v0001: ")
    assert describe(tmp_path / "scores.parquet").endswith(f"{summary.sentence}\nScores: {tmp_path / 'scores.parquet'}")


def test_columns_say_what_they_are(photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    schema = score_to(tmp_path / "scores.parquet", photos, predictor).schema
    assert schema.names == ["name", "digest", "class", "p(hotdog)", "p(not_hotdog)", "novel", "version", "problem"]
    assert schema.field("p(hotdog)").type == pa.float32() and schema.field("novel").type == pa.bool_()
    assert schema.metadata == {b"model": b"food", b"version": b"v0001", b"classes": b'["hotdog", "not_hotdog"]'}


def test_files_that_are_not_there_are_listed(photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    (photos / "list").write_text(f"0100.jpg\nno such.jpg\n{'x' * 300}\ntest\nnotes.txt\n")
    problems = score_to(tmp_path / "scores.parquet", photos / "list", predictor)["problem"].to_pylist()
    assert problems == [
        None, "No such file or directory", "File name too long", "it is a folder and not a file", "not an image"
    ]  # fmt: skip


def test_failing_disk_is_not_a_problem_of_an_image(predictor: Predictor) -> None:
    def fail() -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(score(predictor, [("a.jpg", fail)]))


def test_damaged_member_of_a_zip_is_listed(photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    path = KINDS["zip"](photos, ["0100.jpg", "0101.jpg"], tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"0101.jpg") - 200] ^= 1
    path.write_bytes(data)
    rows = score_to(tmp_path / "scores.parquet", path, predictor).to_pylist()
    assert [bool(row["problem"]) for row in rows] == [True, False] and "found damage (0100.jpg: " in rows[0]["problem"]


def test_only_scores_are_replaced(photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    require_replaceable(tmp_path / "new.parquet", "output")
    score_to(tmp_path / "scores.parquet", photos, predictor)
    require_replaceable(tmp_path / "scores.parquet", "output")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for path in (tmp_path / "other.parquet", photos / "0100.jpg", photos):
        with pytest.raises(
            UserError, match=r"^output .*: expected a new file, or scores of an earlier run, found some"
        ):
            require_replaceable(path, "output")
