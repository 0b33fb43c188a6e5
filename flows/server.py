"""Prefect's server: whether it can be used, in words; and what lost machines left there."""

import os
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import prefect
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_API_URL, PREFECT_HOME, get_current_settings
from prefect.states import Crashed, State

from cnn.support.errors import UserError
from cnn.support.files import require_writable

_TIMEOUT_SECONDS = 5
_ANSWERS = {
    401: "it asks for a password: set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud",
    403: "it refuses this password: check PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud",
    404: "there is no Prefect API there: expected an address like http://127.0.0.1:4200/api",
    503: "it is overloaded or starting: try again in a minute",
}


def require_server() -> None:
    """Refuse a Prefect server that cannot be used, or a place where none can be started.

    It takes seconds, unless the server is there and busy: that one is waited for as long as Prefect itself waits.

    Raises:
        UserError: names the setting and what to do.
    """
    if address := PREFECT_API_URL.value():
        _require_api(address)
    else:
        _require_home()
        _end_orphaned_servers()


def _require_api(address: str) -> None:
    named = f"PREFECT_API_URL {address}"
    try:
        with get_client(sync_client=True) as client:
            headers = client._client.headers  # with the password, if there is one
        patience = httpx.Timeout(PREFECT_API_REQUEST_TIMEOUT.value(), connect=_TIMEOUT_SECONDS)  # it may be busy
        response = httpx.get(f"{address.rstrip('/')}/admin/version", headers=headers, timeout=patience)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"{named}: the server cannot be reached ({error or type(error).__name__}): start it with prefect server "
            "start, or unset PREFECT_API_URL to run without one."
        ) from error
    is_api = response.is_success and "json" in response.headers.get("content-type", "")
    if not is_api:
        reason = _ANSWERS.get(404 if response.is_success else response.status_code)
        raise UserError(f"{named}: {reason or f'it answers {response.status_code} {response.reason_phrase}'}.")


def _require_home() -> None:
    """Refuse a home that the embedded server cannot write to, or a database that it does not know."""
    home = PREFECT_HOME.value()
    require_writable(home, "PREFECT_HOME")
    database = get_current_settings().server.database.connection_url
    file = Path(database.get_secret_value().partition(":///")[2] if database else home / "prefect.db")
    revision = _revision(file) if file.is_file() else None  # no file: the first start, or another kind of database
    if revision and not _is_known(revision):
        raise UserError(
            f"{file}: expected a database of Prefect {prefect.__version__} or earlier, found one of another version "
            f"({revision}): set PREFECT_HOME to another folder, or move the file away."
        )


def _end_orphaned_servers() -> None:
    """End the embedded servers of killed runs: nobody else does, and each takes 200 MB."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_embedded = b"PREFECT__SERVER_EPHEMERAL=1" in (process / "environ").read_bytes().split(b"\0")
            if is_embedded and not _is_python(_parent(process)):
                os.kill(int(process.name), signal.SIGTERM)
        except (OSError, ValueError):  # it has ended, or is somebody else's
            continue


def _parent(process: Path) -> Path:
    """The process that another belongs to: its starter, or the system's first process if that has ended."""
    facts = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return process.with_name(facts[1])


def _is_python(process: Path) -> bool:
    return b"python" in (process / "cmdline").read_bytes()


def _revision(file: Path) -> str | None:
    """The version of a database's tables; None if it has none yet, or is in use."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT_SECONDS)) as database:
            return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except (sqlite3.OperationalError, TypeError):
        return None
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file}: expected Prefect's database, found damage ({error}): move the file away.") from error


def _is_known(revision: str) -> bool:
    """Whether Prefect, as it is installed, has a migration of this name."""
    from alembic.script import ScriptDirectory  # takes a moment, and a server of one's own needs none
    from alembic.util import CommandError

    migrations = Path(prefect.__file__).parent / "server/database/_migrations"
    try:
        ScriptDirectory(str(migrations), version_locations=[f"{migrations}/versions/sqlite"]).get_revision(revision)
    except CommandError:
        return False
    return True


def later_scheduled_run() -> bool:
    """Whether the present run was started by a schedule and the next one of its deployment is due already."""
    if not runtime.flow_run.id or not runtime.deployment.id:
        return False
    with get_client(sync_client=True) as client:
        present = client.read_flow_run(UUID(runtime.flow_run.id))
        if not (present.auto_scheduled and present.expected_start_time):
            return False
        between = FlowRunFilterExpectedStartTime(
            after_=present.expected_start_time + timedelta(seconds=1), before_=datetime.now(UTC)
        )
        due = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[UUID(runtime.deployment.id)]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=between,
        )
        return any(run.auto_scheduled for run in client.read_flow_runs(flow_run_filter=due))


def end_lost_tasks() -> None:
    """Mark the tasks as crashed that are said to run in a flow run that crashed: its machine was lost."""
    crashed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])))
    running = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        for task in client.read_task_runs(flow_run_filter=crashed, task_run_filter=running):
            state: State[None] = Crashed(message="The machine or process that ran it was lost.")
            client.set_task_run_state(task.id, state, force=True)
