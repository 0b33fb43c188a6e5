"""Prefect servers that cannot be used: one sentence each, before a flow starts."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import AutomationCore, EventTrigger
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)

from cnn.support.errors import UserError
from flows import server
from flows.deployments import LOST_RUNS, watch_for_lost_runs
from flows.server import require_server


@contextmanager
def answering(status: int, kind: str = "application/json", after: float = 0) -> Iterator[str]:
    """The address of a web server that answers everything alike, after so many seconds."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(after)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(b'"3.8.8"')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, "application/json", "asks for a password: set PREFECT_API_AUTH_STRING"),
        (403, "application/json", "refuses this password: check PREFECT_API_AUTH_STRING"),
        (404, "application/json", "there is no Prefect API there: expected an address like"),
        (200, "text/html", "there is no Prefect API there: expected an address like"),
        (503, "text/html", "is overloaded or starting: try again"),
        (500, "text/html", "answers 500 Internal Server Error"),
    ],
)
def test_server_that_refuses_is_named(status: int, kind: str, message: str) -> None:
    with answering(status, kind) as address, temporary_settings({PREFECT_API_URL: address}):
        with pytest.raises(UserError, match=message) as refused:
            require_server()
        assert str(refused.value).startswith(f"PREFECT_API_URL {address}: ")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "localhost:4200/api", "garbage", "ftp://x"])
def test_unreachable_server_is_named(address: str) -> None:
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(UserError, match="cannot be reached"):
        require_server()


def test_server_that_answers_is_used() -> None:
    with answering(200) as address, temporary_settings({PREFECT_API_URL: address}):
        require_server()


def test_busy_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_TIMEOUT_SECONDS", 0.2)
    with answering(200, after=1) as address, temporary_settings({PREFECT_API_URL: address}):
        require_server()


def test_server_that_does_not_answer_is_named() -> None:
    with answering(200, after=1) as address:
        changed = {PREFECT_API_URL: address, PREFECT_API_REQUEST_TIMEOUT: 0.2}
        with temporary_settings(changed), pytest.raises(UserError, match=r"cannot be reached \(timed out\)"):
            require_server()


def require_home(home: Path) -> None:
    database = f"sqlite+aiosqlite:///{home}/prefect.db"
    changed = {PREFECT_API_URL: None, PREFECT_HOME: home, PREFECT_SERVER_DATABASE_CONNECTION_URL: database}
    with temporary_settings(changed):
        require_server()


def test_home_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UserError, match="PREFECT_HOME /proc/nowhere: cannot be written to"):
        require_home(Path("/proc/nowhere"))


def test_database_of_another_release_is_named(tmp_path: Path) -> None:
    require_home(tmp_path)  # none yet
    migrations = Path(prefect.__file__).parent / "server/database/_migrations/versions/sqlite"
    known = next(migrations.glob("*.py")).read_text().partition('revision = "')[2].partition('"')[0]
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.commit()
        require_home(tmp_path)
        database.execute("INSERT INTO alembic_version VALUES (?)", [known])
        database.commit()
        require_home(tmp_path)
        database.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
        database.commit()
    with pytest.raises(UserError, match=r"prefect\.db: expected a database of .* found one of another version"):
        require_home(tmp_path)
    (tmp_path / "prefect.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(UserError, match=r"prefect\.db: expected Prefect's database, found damage"):
        require_home(tmp_path)


def test_servers_of_killed_runs_are_ended(tmp_path: Path) -> None:
    sleeper = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    environment = os.environ | {"PREFECT__SERVER_EPHEMERAL": "1"}
    orphan, own = (
        subprocess.Popen([sys.executable, "-c", sleeper + then], env=environment, stdout=subprocess.PIPE, text=True)
        for then in ("print(p.pid, flush=True)", "print(p.pid, flush=True); p.wait()")
    )
    with orphan, own:
        assert orphan.stdout and own.stdout
        orphaned, child = (int(each.stdout.readline()) for each in (orphan, own) if each.stdout)
        orphan.wait()
        require_home(tmp_path)
        deadline = time.monotonic() + 30
        while alive(orphaned) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(orphaned) and alive(child)
        os.kill(child, signal.SIGKILL)


def alive(number: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("prefect_server")
def test_watching_for_lost_runs_goes_on_when_deployed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    updated = list[object]()
    monkeypatch.setattr(SyncPrefectClient, "update_automation", lambda self, _, automation: updated.append(automation))
    for seconds in (300, 300, 200):
        watch_for_lost_runs(seconds)
    (automation,) = updated  # the server forgets whom it waits for when an automation is replaced
    assert isinstance(automation, AutomationCore) and automation.name == LOST_RUNS
    assert isinstance(automation.trigger, EventTrigger) and automation.trigger.within.total_seconds() == 200
