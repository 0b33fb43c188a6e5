"""Flow runs: what they are called, how they begin and end, and who is notified when they fail."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect import Flow, runtime
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas import FlowRun
from prefect.states import Completed, State

from cnn.data.datasets import Dataset
from cnn.publication.manifest import Manifest
from cnn.publication.versions import new_images, versions
from cnn.support.errors import UserError
from cnn.support.references import Reference
from flows.settings import MIRROR, FlowSettings, model_name

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def flow(name: str) -> Callable[[Callable[Parameters, Result]], Flow[Parameters, Result]]:
    """A Prefect flow whose runs are named after their data; it notifies when one fails, crashes or is cancelled."""
    hooks: Any = [_notify]
    return prefect.flow(name=name, flow_run_name=_run_name, on_failure=hooks, on_crashed=hooks, on_cancellation=hooks)


def _run_name() -> str:
    """Name of the present flow run: which flow, from which data."""
    data = runtime.flow_run.parameters["settings"].data
    return f"{runtime.flow_run.flow_name} from {Path(data).absolute().stem}"


@dataclass(frozen=True)
class Place:
    """Where a run keeps things and publishes, and which mirror it tries first."""

    store: Path
    models: Path
    mirror: str | None

    def model(self, data: str, wanted: str | None) -> tuple[str, list[Path]]:
        """The name of the model, and its versions that were published before this run."""
        name = model_name(data, wanted)
        return name, list(versions(self.models / name))


def begin(settings: FlowSettings) -> Place:
    """Check the settings before any work.

    Raises:
        UserError: something cannot work.
    """
    settings.check()
    _require_block(settings.notify)
    mirror = settings.mirror or os.environ.get(MIRROR)
    return Place(settings.store.absolute(), settings.models.absolute(), mirror)


def _require_block(slug: str | None) -> None:
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


def too_few_new(dataset: Reference, published: list[Path], min_new: int) -> str | None:
    """Why the images are not worth a training, as a sentence; None if ``min_new`` or more are new.

    New are those that the last of the ``published`` versions was not made from; without one, all are.
    """
    if not (published and min_new):
        return None
    new = new_images(Dataset.open(dataset.path), published[-1])
    if new >= min_new:
        return None
    since = f"{published[-1].parent.name} {published[-1].name}"
    return f"New images since {since}: {new} of the {min_new} wanted. Nothing was trained or published."


def outcome(version: Reference, published: list[Path]) -> str:
    """What came of a run, as a sentence; ``published`` are the versions that there were when it began."""
    manifest = Manifest.open(version.path)
    name = f"{manifest.name} {manifest.version}"
    if version.path not in published:
        return f"{name} is published and is {'' if manifest.promoted else 'not '}the champion. {manifest.reason}"
    if version.path == published[-1]:
        return f"Nothing has changed since {name}: nothing was published."
    return f"From this data and these settings {name} was made: nothing was published."


def require_no_failures(failures: dict[str, str], version: Reference) -> None:
    """End a run in which some architecture could not be trained, after the others have been published.

    Raises:
        UserError: there is one; names the version that was published all the same.
    """
    if failures:
        raise UserError(f"{' '.join(failures.values())} The best of the others is published: {version.path}.")


def completed(message: str, version: Path) -> Any:
    """A flow's last state: Completed with a message; the flow's caller gets a reference to ``version``."""
    return Completed(message=message, data=Reference.to(version))


async def _notify(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Tell the notification block that the run's settings name, if they name one, how the run ended."""
    if slug := flow_run.parameters.get("settings", {}).get("notify"):
        block: Any = await Block.aload(slug)
        await block.notify(f"{flow_run.name}: {state.name}. {state.message}", subject=f"{flow.name}: {state.name}")
