"""The parts of a source that is prepared in shards: whose they are, and until when."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from cnn.data.preparation import Span
from cnn.support.references import Reference
from tasks import preparing


def test_parts_are_one_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "parts" / "a"
    part.mkdir(parents=True)
    monkeypatch.setattr(preparing, "shards", lambda _: [Span(0, 1), Span(1, None)])
    monkeypatch.setattr(preparing, "run_shards", lambda *_: [Reference.to(part)])
    source: Any = None
    with preparing._parts(source, source, None, tmp_path) as parts:
        descriptor = os.open(tmp_path / "parts", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert parts == [part] and part.exists()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    assert not part.exists()
