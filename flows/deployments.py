"""The project's own steps in ``prefect.yaml``: what deploying sets up on Prefect's server, and secrets for a run."""

import os
from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification

from flows.notifications import require_block
from tasks.gpus import LIMIT

LOST_RUNS = "mark lost runs as crashed"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_NEWS = "{{ flow_run.name }}: crashed. Nothing was heard of it for a while: its machine or its network was lost."


def set_environment(**variables: str) -> None:
    """Set environment variables of a run before its flow is loaded.

    As a step under ``pull`` it gets what Prefect's blocks hold when the run starts; in ``env`` of ``job_variables``,
    ``prefect deploy`` would store their secrets on the server as plain text.
    """
    os.environ.update(variables)


def limit_gpus(gpus: int) -> None:
    """Let at most so many GPUs be reserved at a time, over all runs of this Prefect server."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(LIMIT, gpus)


def watch_for_lost_runs(silent_seconds: int, notify: str | None = None) -> None:
    """Mark a run as crashed, by an automation, that has sent no heartbeat for so long: it would run for ever.

    Args:
        silent_seconds: several times the runs' PREFECT_FLOWS_HEARTBEAT_FREQUENCY.
        notify: notification block TYPE/NAME that gets a message, too.

    Raises:
        UserError: there is no such block.
    """
    crash = ChangeFlowRunState(
        state=StateType.CRASHED, message=f"No heartbeat for {silent_seconds} s: its machine was lost."
    )
    actions: list[ActionTypes] = [crash]
    require_block(notify)
    with get_client(sync_client=True) as client:
        if notify:
            type_, name = notify.split("/")
            block = client.read_block_document_by_name(name, type_).id
            actions.append(SendNotification(block_document_id=block, subject="Crashed", body=_NEWS))
        automation = AutomationCore(
            name=LOST_RUNS,
            description="Deployed with prefect.yaml.",
            trigger=EventTrigger(
                after={_HEARTBEAT},
                expect={"prefect.flow-run.*"},  # the next heartbeat, or an end of whatever name
                match={"prefect.resource.id": "prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=silent_seconds),
            ),
            actions=actions,
        )
        present = client.read_automations_by_name(LOST_RUNS)
        if not present:
            client.create_automation(automation)
        elif present[0].model_dump(exclude={"id"}) != automation.model_dump():  # an update forgets whom it waits for
            client.update_automation(present[0].id, automation)
