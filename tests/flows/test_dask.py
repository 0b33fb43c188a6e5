"""Steps on workers of a Dask cluster: the same result as in one process, also if a worker is killed in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from candidates import explained  # noqa: F401  (a fixture)
from clusters import end, files, train
from conftest import run_flow
from prefect import flow
from prefect.cache_policies import NO_CACHE
from scored import photos  # noqa: F401  (a fixture)

from cnn.data import preparation
from cnn.support.errors import UserError
from cnn.support.references import Reference
from cnn.training import features
from flows.score import score
from flows.settings import ScoreSettings
from tasks import preparing
from tasks.runners import run_shards, running_on

distributed = pytest.importorskip("distributed", reason="requirements/scale.txt is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of two processes."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as started:
        yield started.scheduler_address


def prepare_what_is_gone(folder: Path, runner: str) -> None:
    """Let workers read a source that was deleted."""
    source = Reference(path=folder / "gone", digest="", checksum="")

    @flow
    def steps() -> None:
        with running_on(runner):
            common = {"source": source, "labels": None, "number": 1, "count": 2, "store": folder}
            run_shards(preparing.prepare_shard, [common | {"start": 0, "stop": stop} for stop in (1, 2)], "preparing")

    steps()


def kill_a_worker(address: str, sign: Path, pattern: str) -> None:
    """Kill a process of a cluster as soon as there is a file of that pattern."""
    with distributed.Client(address, set_as_default=False) as client:
        pids = client.run(os.getpid)
    deadline = time.monotonic() + 240
    while not list(sign.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(min(pids.values()), signal.SIGKILL)


@pytest.mark.long
def test_a_shard_that_ends_every_worker_ends_the_run_with_a_sentence(cluster: str, tmp_path: Path) -> None:
    @flow
    def steps() -> None:
        with running_on(f"dask:{cluster}"):
            run_shards(end.with_options(cache_policy=NO_CACHE), [{"folder": tmp_path}], "ending")

    with pytest.raises(UserError, match=r"^end 1 of 1: its workers died, .* enough memory"):
        steps()


def test_a_worker_killed_while_it_embeds(
    cluster: str, drawn: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (preparation, features):
        monkeypatch.setattr(module, "_IMAGES_PER_SHARD", 4)
    with pytest.raises(UserError, match=f"^{tmp_path}/gone: expected .* found nothing: check the path"):
        prepare_what_is_gone(tmp_path, f"dask:{cluster}")
    expected = train(drawn, weights_file, tmp_path / "threads", "threads")
    killer = threading.Thread(target=kill_a_worker, args=(cluster, tmp_path / "dask", "features/*/*.arrow"))
    killer.start()
    found = train(drawn, weights_file, tmp_path / "dask", f"dask:{cluster}")
    killer.join()
    assert [files(each) for each in found] == [files(each) for each in expected]
    assert len(files(found[1])) == 6  # of 24 images, each in one of them
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def scores_on(runner: str, folder: Path, photos: Path, models: Path) -> bytes:
    """The scores file of a flow that runs on this runner, with a store of its own."""
    places = {"store": folder / "store", "output": folder / "scores.parquet"}
    settings = ScoreSettings(input=photos, models=models, shard_images=4, runner=runner, **places)
    return run_flow(score, settings).version.read_bytes()


def test_scores_of_two_processes(photos: Path, explained: Path, tmp_path: Path) -> None:
    scores = [scores_on(runner, tmp_path / runner, photos, explained) for runner in ("threads", "dask")]
    assert scores[0] == scores[1]


@pytest.mark.long
def test_a_worker_killed_while_it_scores(cluster: str, photos: Path, explained: Path, tmp_path: Path) -> None:
    expected = scores_on("threads", tmp_path / "threads", photos, explained)
    killer = threading.Thread(target=kill_a_worker, args=(cluster, tmp_path / "dask", "store/scores/*/scores.parquet"))
    killer.start()
    assert scores_on(f"dask:{cluster}", tmp_path / "dask", photos, explained) == expected
    killer.join()
    assert not list((tmp_path / "dask").rglob(".*.tmp"))
