"""The server as a process: what it says at its start, how it ends, and what it does about the slow."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import requests
from candidates import explained  # noqa: F401  (a fixture)
from conftest import ROOT
from stub_predictor import encoded

from cnn.__main__ import main
from cnn.publication.champions import champion as champion_of
from cnn.serving.predictor import Predictor
from cnn.serving.web.server import listen
from cnn.support.errors import UserError

pytestmark = pytest.mark.slow


@contextmanager
def served(models: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a server for a while, and its process."""
    command = [sys.executable, "-m", "cnn", "serve", "--models", str(models), "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        found = re.search(r"http://\S+", line := process.stdout.readline())
        assert found, line
        yield found[0], process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(explained: Path) -> Iterator[str]:
    with served(explained, "--max-seconds", "1") as (address, _):
        yield address


def test_it_answers_as_the_predictor_does(server: str, explained: Path) -> None:
    predictor = Predictor.champion(explained)
    for colour in ("red", "green", "white"):
        image = encoded(colour, "JPEG", (300, 200))
        expected = predictor.predict(image)
        found = requests.post(f"{server}/predict?evidence=1", files={"image": image}, timeout=30).json()
        assert found["version"] == predictor.version.name
        (result,) = found["results"]
        assert result["probabilities"] == pytest.approx(expected.by_class, abs=1e-6)
        assert (result["class"], result["novel"]) == (expected.label, expected.novel)
        assert expected.evidence is not None
        assert np.allclose(result["evidence"]["values"], expected.evidence, atol=1e-4)


def test_it_shows_the_report(server: str, explained: Path) -> None:
    model = next(path for path in explained.iterdir() if path.is_dir())
    version = champion_of(model)
    assert version and requests.get(f"{server}/report", timeout=30).content == (version / "report.html").read_bytes()
    figures = json.loads((version / "manifest.json").read_text(encoding="utf-8"))["metrics"]["test"]
    assert requests.get(f"{server}/version", timeout=30).json()["metrics"]["test"]["f1"]["value"] == figures["f1"]


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", b"GET / HT"])
def test_headers_that_do_not_end_are_cut_off(server: str, sent: bytes) -> None:
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_body_that_was_refused_is_not_awaited_for_long(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 415 ")
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"a")
                time.sleep(0.05)


def test_what_was_accepted_is_answered_before_the_end(explained: Path) -> None:
    with served(explained) as (address, process):
        statuses = []
        body = iter([encoded()[:20], None, encoded()[20:]])

        def slowly() -> Iterator[bytes]:
            for part in body:
                if part is None:
                    time.sleep(1)
                else:
                    yield part

        def ask() -> None:
            headers = {"content-type": "image/png"}
            statuses.append(requests.post(f"{address}/predict", data=slowly(), headers=headers, timeout=30).status_code)

        asked = threading.Thread(target=ask)
        asked.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        asked.join(30)
        assert statuses == [200]
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_mistakes_are_told_in_a_sentence(explained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model"):
        main(["serve", "--models", str(tmp_path)])
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="Address already in use"):
        main(["serve", "--models", str(explained), "--port", str(taken.getsockname()[1])])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        main(["serve", "--models", str(explained), "--collect", str(tmp_path / "file")])
    with pytest.raises(UserError, match="--max-waiting 4"):
        main(["serve", "--models", str(explained), "--max-waiting", "4"])


@pytest.mark.parametrize("flag", [("--port", "99999"), ("--port", "x"), ("--max-mib", "0"), ("--max-images", "-1")])
def test_limits_are_checked(flag: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", *flag])
