"""What a flow run is called, how it ends, and who hears of it when it ends badly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect import Flow, runtime
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas import FlowRun
from prefect.states import Completed, State

from cnn.errors import UserError
from cnn.files import Reference
from cnn.publication import new_pictures, read_manifest
from tasks.steps import open_dataset

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def flow(name: str) -> Callable[[Callable[Parameters, Result]], Flow[Parameters, Result]]:
    """A Prefect flow whose runs are called after their data, and tell whoever wants to know when they end badly."""
    hooks: Any = [_notify]
    return prefect.flow(name=name, flow_run_name=_run_name, on_failure=hooks, on_crashed=hooks, on_cancellation=hooks)


def _run_name() -> str:
    """Name of the present flow run: which flow, from which data."""
    data = runtime.flow_run.parameters["settings"].data
    return f"{runtime.flow_run.flow_name} from {Path(data).absolute().stem}"


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
        raise UserError(f"--notify {slug}: {error}; prefect block ls lists those that there are.") from error
    if not isinstance(block, NotificationBlock):
        raise UserError(f"--notify {slug}: expected a notification block, found {type(block).__name__}.")


def too_few_new(dataset: Reference, published: list[Path], min_new: int) -> str | None:
    """Why the pictures are not worth a training, as a sentence; None if ``min_new`` or more are new.

    New are those that the last of the ``published`` versions was not made from; without one, all are.
    """
    if not (published and min_new):
        return None
    new = new_pictures(open_dataset(dataset), published[-1])
    if new >= min_new:
        return None
    since = f"{published[-1].parent.name} {published[-1].name}"
    return f"New pictures since {since}: {new} of the {min_new} wanted. Nothing was trained or published."


def what_happened(version: Reference, published: list[Path]) -> str:
    """What a run came to, as a sentence; ``published`` are the versions that there were when it began."""
    manifest = read_manifest(version.path)
    name = f"{manifest['name']} {manifest['version']}"
    if version.path not in published:
        return f"{name} is published and is {'' if manifest['promoted'] else 'not '}the champion. {manifest['why']}"
    if version.path == published[-1]:
        return f"Nothing has changed since {name}: nothing was published."
    return f"From this data and these settings {name} was made: nothing was published."


def ended(message: str, version: Path) -> Any:
    """A flow's last state: Completed with a message; whoever calls the flow gets a reference to ``version``."""
    return Completed(message=message, data=Reference.to(version, "model version"))


async def _notify(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Tell the notification block that the run's settings name, if they name one, how the run ended."""
    if slug := flow_run.parameters.get("settings", {}).get("notify"):
        block: Any = await Block.aload(slug)
        await block.notify(f"{flow_run.name}: {state.name}. {state.message}", subject=f"{flow.name}: {state.name}")
