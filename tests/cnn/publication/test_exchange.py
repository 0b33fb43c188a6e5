"""What one machine puts in object storage while another one does, too."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from object_storage import BUCKET, Server, failing, storage  # noqa: F401

from cnn.publication.exchange import claim, put, unchanged
from cnn.support.objects import ConflictError, Object
from cnn.support.remote import local_path, refresh


def test_only_what_was_seen_is_replaced(storage: Server, tmp_path: Path) -> None:
    file = local_path(f"{BUCKET}/models/champion.json")
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.write_text("mine", encoding="utf-8")
    theirs.write_text("theirs", encoding="utf-8")
    with unchanged(file):
        put(mine, file)
        put(theirs, file)  # nobody else has
    with unchanged(file):
        Object(f"{BUCKET}/models/champion.json").put(b"another machine's", "digest")
        with pytest.raises(ConflictError, match="replaced"):
            put(mine, file)


def test_put_whose_answer_was_lost_is_no_conflict(storage: Server, tmp_path: Path) -> None:
    file = local_path(f"{BUCKET}/models/champion.json")
    mine = tmp_path / "mine"
    mine.write_text("mine", encoding="utf-8")
    with unchanged(file):
        storage.faults.append(("PUT", failing("500 Error", after=True)))
        put(mine, file)
    refresh(file)
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_name_is_claimed_once(storage: Server) -> None:
    folder = local_path(f"{BUCKET}/models/food/v0001")
    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(lambda _: claim(folder), range(4))) == [False, False, False, True]
