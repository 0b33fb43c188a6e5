"""The API: requests per second and latency at 1, 8 and 64 clients, beside a plain FastAPI handler without batches.

    python benchmarks/api.py --data FOLDER --models FOLDER [--name NAME] [--repeats 5]

``python -m cnn serve`` and ``benchmarks/plain_api.py`` answer with the champion, each in a process of its own, in turn.
A client is a thread with a connection of its own, which posts the next photo once it has the answer to the one before;
all photos below the folder are posted once by all clients together. Latencies are those of answers;
"processor" is what processors worked for the server per request. Figures are medians over the repeats. --quick: tiny
drawn data, a network that learnt from it, and one repeat; the figures mean nothing.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from urllib3 import encode_multipart_formdata

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness import describe_conditions, parse, publish_tiles, working_folder
from cnn.publication.champions import find_champion
from cnn.serving.shards import cut
from cnn.support.commandline import run
from cnn.support.errors import UserError

_CLIENTS = (1, 8, 64)


class Form(NamedTuple):
    """A photo as a browser posts it: the body and its content type."""

    body: bytes
    kind: str


class Reply(NamedTuple):
    """The status of an answer, and how long it took."""

    status: int
    seconds: float


@dataclass(frozen=True)
class Load:
    """The replies to all photos, how long all of them took, and seconds that processors worked for the server."""

    replies: Sequence[Reply]
    seconds: float
    worked: float

    @property
    def answered(self) -> list[float]:
        """Seconds of each reply that is an answer."""
        return [reply.seconds for reply in self.replies if reply.status == 200]

    @property
    def speed(self) -> float:
        """Answers per second."""
        return len(self.answered) / self.seconds

    def latency(self, percent: float) -> float:
        """A percentile of the answers' latency in ms; NaN: there was none."""
        return float(np.percentile(self.answered or [np.nan], percent)) * 1000


class Server(NamedTuple):
    """A process that answers at ``address``: host and port."""

    address: str
    process: int

    def worked(self) -> float:
        """Seconds that processors have worked for it (proc(5): fields 14 and 15, in ticks)."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(*command: str | Path) -> Iterator[Server]:
    """A server that runs for as long as the block lasts.

    Raises:
        UserError: it ended without one; holds what it said.
    """
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"http://([\w.]+:\d+)", line):
                    yield Server(found[1], process.pid)
                    return
            raise UserError(f"{command[0]}: expected a server's address, found: {said.strip() or 'nothing'}")
        finally:
            process.terminate()


def post(address: str, forms: Iterator[Form]) -> list[Reply]:
    """Post forms one after the other over one connection, as one client."""
    replies = []
    with closing(HTTPConnection(address, timeout=120)) as connection:
        for form in forms:
            begin = time.perf_counter()
            connection.request("POST", "/predict", form.body, {"Content-Type": form.kind})
            response = connection.getresponse()
            response.read()
            replies.append(Reply(response.status, time.perf_counter() - begin))
    return replies


def load(server: Server, forms: Sequence[Form], clients: int) -> Load:
    """Post all forms by so many clients together."""
    worked, begin, shared = server.worked(), time.perf_counter(), iter(forms)  # each client takes the next one
    with ThreadPoolExecutor(clients) as pool:
        found = [pool.submit(post, server.address, shared) for _ in range(clients)]
        replies = [reply for each in found for reply in each.result()]
    return Load(replies, time.perf_counter() - begin, server.worked() - worked)


def measure(servers: Mapping[str, Server], forms: Sequence[Form], repeats: int) -> dict[tuple[int, str], list[Load]]:
    """The loads by clients and contestant; the first of each contestant is not counted."""
    for server in servers.values():
        load(server, forms[:64], clients=8)
    loads: dict[tuple[int, str], list[Load]] = {(clients, name): [] for clients in _CLIENTS for name in servers}
    for _ in range(repeats):
        for (clients, name), found in loads.items():
            found.append(load(servers[name], forms, clients))
    return loads


def print_table(loads: Mapping[tuple[int, str], Sequence[Load]]) -> None:
    """Each number of clients and contestant, and which replies were no answers."""
    print("| clients | | requests/s, median (lowest to highest) | p50, ms | p99, ms | processor, ms | not 200 |")
    print("|---|---|---|---|---|---|---|")
    for (clients, name), found in loads.items():
        speeds = sorted(each.speed for each in found)
        p50, p99 = (statistics.median(each.latency(percent) for each in found) for percent in (50, 99))
        worked = 1000 * statistics.median(each.worked / len(each.replies) for each in found)
        refused = Counter(reply.status for each in found for reply in each.replies if reply.status != 200)
        others = ", ".join(f"{count} × {status}" for status, count in sorted(refused.items())) or "0"
        range_ = f"{statistics.median(speeds):.1f} ({speeds[0]:.1f} to {speeds[-1]:.1f})"
        print(f"| {clients} | {name} | {range_} | {p50:.0f} | {p99:.0f} | {worked:.1f} | {others} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    options = parse(parser, arguments, ["data", "models"], repeats=1)
    with working_folder(options, images=4) as folder, ExitStack() as stack:
        models = (publish_tiles(options, folder) if options.quick else options.models).absolute()
        version, data = find_champion(models, options.name), options.data
        files = [data / name for shard in cut(data, 1000) for name in shard.names]
        forms = [Form(*encode_multipart_formdata({"image": (file.name, file.read_bytes())})) for file in files]
        commands: dict[str, list[str | Path]] = {
            "`cnn serve`": ["-m", "cnn", "serve", "--port", "0", "--models", models, "--name", version.parent.name],
            "plain handler": [ROOT / "benchmarks" / "plain_api.py", version],
        }
        servers = {name: stack.enter_context(started(*command)) for name, command in commands.items()}
        print(f"{len(forms):,} photos, {describe_conditions(options.repeats)}\n")
        print_table(measure(servers, forms, options.repeats))


if __name__ == "__main__":
    run(main)
