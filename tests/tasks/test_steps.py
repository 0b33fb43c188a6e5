"""What every step has: names for its artifacts, errors in plain words, and retries of what can succeed."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from object_storage import BUCKET, Server, storage  # noqa: F401
from prefect import flow
from prefect.cache_policies import NO_CACHE

from cnn.support.errors import TransientError, UserError
from cnn.support.references import Reference
from cnn.support.remote import local_path
from tasks.caching import Call, share_results
from tasks.steps import artifact_key, step


@given(st.text(), st.text())
def test_artifact_keys_are_what_prefect_takes(first: str, second: str) -> None:
    key = artifact_key("progress", first, second)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and key.startswith("progress")


def failing_with(error: BaseException) -> Reference:
    """Call a step that fails, without Prefect."""

    @step("fail")
    def fail(number: int) -> Reference:
        raise error

    return fail.fn(1)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Nothing more can be written at place: the disk is full; free some space"),
        (errno.EDQUOT, "Nothing more can be written at place: the disk quota is used up; free some space"),
        (errno.EACCES, "place may not be read or written; change its permissions"),
        (errno.ENOENT, "place: No such file or directory; check the path"),
    ],
)
def test_system_errors_become_sentences(number: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        failing_with(OSError(number, os.strerror(number), "place"))
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("error", [OSError("of a library"), ValueError("ours"), UserError("the user's")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        failing_with(error)
    assert raised.value is error


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "tries"),
    [(TransientError("a dead network"), 3), (ValueError("a mistake of ours"), 1), (UserError("a wrong checksum"), 1)],
)
def test_only_transient_errors_are_retried(tmp_path: Path, error: Exception, tries: int) -> None:
    tried = []

    @step("fail")
    def fail(file: Path) -> Reference:
        tried.append(file)
        raise error

    @flow
    def failing() -> None:
        fail.with_options(retries=2, retry_delay_seconds=0, cache_policy=NO_CACHE)(tmp_path)

    with pytest.raises(type(error)):
        failing()
    assert len(tried) == tries


@pytest.mark.usefixtures("prefect_server")
def test_step_does_not_run_while_its_result_cannot_be_looked_up(
    storage: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = local_path(f"{BUCKET}/store"), []

    monkeypatch.setattr(Call, "key", lambda *_: "made")  # a function of a test has none

    @step("make")
    def make(store: Path) -> Reference:
        calls.append(store)
        store.mkdir(parents=True, exist_ok=True)
        (store / "made").write_bytes(b"made")
        return Reference.to(store / "made")

    @flow
    def main() -> Reference:
        share_results(store)
        return make(store)

    made = main()
    storage.busy_every = 1  # object storage is away
    with pytest.raises(UserError, match=r"s3://bucket/store.*the same command goes on from here"):
        main()
    storage.busy_every = 0
    assert main() == made and len(calls) == 1
