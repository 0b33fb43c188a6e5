"""Notifications: a message to a Prefect block about how a run ended."""

import socket
from typing import Any

from prefect import Flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.states import State
from prefect.utilities.urls import url_for

from cnn.support.errors import UserError
from flows.outcomes import Ending, is_news


def hooks() -> dict[str, Any]:
    """Hooks of a flow that notify when a run ends, in whatever way."""
    return {f"on_{event}": [notify] for event in ("completion", "failure", "crashed", "cancellation")}


def require_block(slug: str | None) -> None:
    """Refuse a notification block that is not there: a run that fails should not find out.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    if slug is None:
        return
    try:
        block: Any = Block.load(slug)
    except ValueError as error:
        raise UserError(f"notify {slug}: {error}; prefect block ls lists those that there are.") from error
    if not isinstance(block, NotificationBlock):
        raise UserError(f"notify {slug}: expected a notification block, found {type(block).__name__}.")


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Tell the block that the run's parameters name, if they name one, how the run ended."""
    slug, news = flow_run.parameters.get("notify"), flow_run.parameters.get("notify_about", "failures")
    if not slug or (state.is_completed() and not is_news(Ending(str(state.name)), news)):
        return
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run.id)  # its name may be newer than that of the one at hand
        deployment = client.read_deployment(run.deployment_id).name if run.deployment_id else "no deployment"
    seconds = round(run.estimated_run_time.total_seconds())
    where = f"{flow.name}/{deployment} on {socket.gethostname()}, {seconds // 60} min {seconds % 60} s"
    lines = [f"{run.name}: {state.name}. {state.message}", where, url_for(run)]
    block: Any = Block.load(slug)
    block.notify("\n".join(filter(None, lines)), subject=f"{flow.name}: {state.name}")
