"""Several workers against one that learns from the whole batches: the same losses; killed, they resume."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_worker

from cnn.data.datasets import Dataset
from cnn.support.errors import UserError
from cnn.training.workers import ALONE, Workers, together

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-c", "from cnn.support.backend import mx; mx.kv"]
#: What each of the four processes is started in; nothing for this machine.
Hosts = dict[str, tuple[list[str], str]]


class Counted:
    """Stands in for a KVStore: who this is, and among how many."""

    def __init__(self, rank: int, num_workers: int) -> None:
        self.rank, self.num_workers = rank, num_workers


@pytest.mark.parametrize(("images", "count"), [(7, 2), (2, 3), (0, 2), (64, 5)])
def test_each_image_is_one_workers(images: int, count: int) -> None:
    parts = [Workers(Counted(rank, count)).part(images) for rank in range(count)]
    assert [number for part in parts for number in range(images)[part]] == list(range(images))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_without_variables_a_process_is_alone() -> None:
    with together() as workers:
        assert workers is ALONE and workers.leads


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMLC_ROLE", "worker")
    monkeypatch.setenv("DMLC_PS_ROOT_URI", "127.0.0.1")
    with pytest.raises(UserError, match="expected DMLC_PS_ROOT_PORT, DMLC_NUM_SERVER, DMLC_NUM_WORKER"), together():
        pass


# ---- four processes


@pytest.fixture(scope="module")
def expected(drawn_dataset: Dataset, pixels: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one worker comes to with the whole batches."""
    out = tmp_path_factory.mktemp("alone") / "alone.npz"
    training_worker.train(drawn_dataset.folder, pixels, out)
    return dict(np.load(out))


@pytest.fixture
def train(drawn_dataset: Dataset, pixels: Path, tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts scheduler, server and two workers, which write into ``tmp_path``; gives the workers."""
    started: list[subprocess.Popen[str]] = []

    def start(hosts: Hosts, *options: str) -> list[subprocess.Popen[str]]:
        common = {"DMLC_PS_ROOT_URI": hosts["scheduler"][1], "DMLC_PS_ROOT_PORT": str(free_port())}
        common |= {"DMLC_NUM_SERVER": "1", "DMLC_NUM_WORKER": "2", "OMP_NUM_THREADS": "1"}
        work = [sys.executable, str(ROOT / "tests" / "training_worker.py"), str(drawn_dataset.folder), str(pixels)]
        work += [str(tmp_path / "worker.npz"), *options]
        for host, (inside, address) in hosts.items():
            own = {"DMLC_ROLE": host.rstrip("12"), "DMLC_NODE_HOST": address}
            command: Sequence[str] = work if host.startswith("worker") else SERVE
            started.append(
                subprocess.Popen(
                    [*inside, *command], env=os.environ | common | own, cwd=ROOT, stderr=subprocess.PIPE, text=True
                )
            )
        return started[-2:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


HERE: Hosts = {host: ([], "127.0.0.1") for host in ("scheduler", "server", "worker1", "worker2")}


@pytest.fixture
def namespaces() -> Iterator[Hosts]:
    """A network namespace for each process, joined by a bridge."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    prefix, hosts = f"k{os.getpid() % 100_000}", Hosts()

    def ip(line: str) -> None:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True)

    try:
        try:
            ip(f"link add {prefix}b type bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no bridge can be made here: {error.stderr.decode().strip()}")
        ip(f"link set {prefix}b up")
        for number, host in enumerate(HERE, 1):
            name = f"{prefix}n{number}"
            ip(f"netns add {name}")
            hosts[host] = (["ip", "netns", "exec", name], f"10.213.7.{number}")
            ip(f"link add {prefix}v{number} type veth peer name eth0 netns {name}")
            ip(f"link set {prefix}v{number} master {prefix}b up")
            ip(f"-n {name} address add {hosts[host][1]}/24 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {name} link set lo up")
        yield hosts
    finally:
        for inside, _ in hosts.values():
            ip(f"netns delete {inside[-1]}")
        subprocess.run(["ip", "link", "delete", f"{prefix}b"], capture_output=True, check=False)


def assert_as_one(folder: Path, expected: Any) -> None:
    """Both workers ended with the same, and with what one comes to."""
    first, second = (dict(np.load(folder / f"worker{rank}.npz")) for rank in (0, 1))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)
        steps = slice(-len(values), None) if name == "losses" else ...  # a resumed training has fewer
        np.testing.assert_allclose(values, expected[name][steps], rtol=1e-4, atol=1e-5, err_msg=name)


def finish(workers: list[subprocess.Popen[str]]) -> list[str]:
    return [worker.communicate(timeout=120)[1] for worker in workers]


@pytest.mark.slow
def test_two_workers_do_what_one_does_with_the_doubled_batch(
    train: Callable[..., Any], tmp_path: Path, expected: Any
) -> None:
    workers = train(HERE)
    finish(workers)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert_as_one(tmp_path, expected)


@pytest.mark.long
def test_in_network_namespaces(train: Callable[..., Any], namespaces: Hosts, tmp_path: Path, expected: Any) -> None:
    finish(train(namespaces))
    assert_as_one(tmp_path, expected)


@pytest.mark.long
def test_others_end_when_a_worker_dies_and_all_resume(train: Callable[..., Any], tmp_path: Path, expected: Any) -> None:
    workers = train(HERE, "--patience", "5", "--dies")
    errors = finish(workers)
    assert sorted(worker.returncode for worker in workers) == [-signal.SIGKILL, 1]
    assert "error: worker 0 of 2: no answer from the others for 5 s" in "".join(errors)
    assert not list(tmp_path.glob("worker*.npz"))
    finish(train(HERE))
    assert_as_one(tmp_path, expected)
    assert len(np.load(tmp_path / "worker0.npz")["losses"]) == len(expected["losses"]) - 2  # the first epoch's steps
