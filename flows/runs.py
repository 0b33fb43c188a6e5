"""Flow runs: flat parameters, names, how they begin, and how they end: as a state with a name of its own."""

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import prefect
from coolname import data as slugs  # what Prefect names runs with
from prefect import Flow, runtime
from prefect.states import Completed, State
from pydantic import ValidationError
from pydantic.json_schema import GetJsonSchemaHandler, JsonSchemaValue
from pydantic_core import CoreSchema

from cnn.data.datasets import Dataset
from cnn.publication.manifest import versions
from cnn.serving.scoring import Summary
from cnn.support.digests import remembered_digests
from cnn.support.errors import UserError
from cnn.support.references import Reference
from cnn.support.validation import describe_validation
from flows import notifications, server
from flows.outcomes import Ending, Outcome
from flows.pages import show_failure, show_outcome, show_scores
from flows.settings import MIRROR, FlowSettings, TrainingSettings, model_name
from tasks.caching import share_results
from tasks.runners import running_on
from tasks.steps import measured

Settings = TypeVar("Settings", bound=FlowSettings)
#: A flow's last state, whose data refers to what it made. Flows do not import Prefect before `tasks` has set it up.
End = State[Reference]
#: A flow's function: settings in, its last state out.
Steps = Callable[[Settings], End]


class _PlainOptional:
    """Describes an optional parameter by what it may be and not as a choice between that and nothing: forms need it."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return next(choice for choice in handler(schema)["anyOf"] if choice != {"type": "null"})


def _flat(settings: type[FlowSettings]) -> inspect.Signature:
    """A parameter for each setting, keyword only."""
    signature = inspect.signature(settings)
    parameters = [
        parameter.replace(annotation=Annotated[parameter.annotation, _PlainOptional()])
        if parameter.default is None
        else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _documented(text: str | None, settings: type[FlowSettings]) -> str:
    """A docstring that describes each parameter: Prefect's form takes its help from there."""
    arguments = [f"    {name}: {field.description}" for name, field in settings.model_fields.items()]
    return "\n".join([inspect.cleandoc(text or ""), "", "Args:", *arguments])


def flow(settings: type[Settings]) -> Callable[[Steps[Settings]], Flow[..., Any]]:
    """A Prefect flow with a flat parameter for each field of ``settings``, from a function of these settings.

    A run leaves a page in the UI when it completes or a user's mistake ends it, and tells those who asked for it.
    """

    def decorate(steps: Steps[Settings]) -> Flow[..., Any]:
        @functools.wraps(steps)
        def run(**parameters: Any) -> State[Any]:
            server.end_lost_tasks()
            if state := _superseded():
                return state
            try:
                validated = _validated(settings, parameters)
                share_results(validated.store)
                with remembered_digests(validated.store / "digests.json"), measured(), running_on(validated.runner):
                    return steps(validated)
            except UserError as error:
                show_failure(error, _page_name(parameters))
                raise

        run.__signature__ = _flat(settings)  # type: ignore[attr-defined]
        run.__doc__ = _documented(steps.__doc__, settings)
        return prefect.flow(name=steps.__name__, flow_run_name=_run_name, **notifications.hooks())(run)

    return decorate


def _validated(settings: type[Settings], parameters: dict[str, Any]) -> Settings:
    try:
        return settings(**parameters)
    except ValidationError as error:
        raise UserError(describe_validation(error)) from error


def _page_name(parameters: dict[str, Any]) -> str:
    """The model that a run trains, as far as its parameters say; the flow's name if they do not, or it trains none."""
    data, flow_name = parameters.get("data"), runtime.flow_run.flow_name or ""
    if data is None:
        return flow_name
    return parameters["name"] or (flow_name if data == "auto" else model_name(data, None))


def _run_name() -> str:
    """The name that a person gave to the present run, or else which data and when."""
    name = runtime.flow_run.name or ""
    if not _is_generated(name):
        return name
    parameters = runtime.flow_run.parameters
    data = Path(parameters.get("data") or parameters["input"]).absolute().stem
    return f"{data}, {runtime.flow_run.scheduled_start_time.in_timezone('local'):%Y-%m-%d %H:%M}"


def _is_generated(name: str) -> bool:
    """Whether a run's name is one that Prefect makes up.

    >>> _is_generated("brave-otter"), _is_generated("new-camera")
    (True, False)
    """
    return all(word in _slug_words() for word in name.split("-"))


@functools.cache
def _slug_words() -> frozenset[str]:
    return frozenset(word for entry in slugs.config.values() if isinstance(entry, dict) for word in _words_of(entry))


def _words_of(entry: dict[str, Any]) -> list[str]:
    phrases = [*entry.get("words", []), *entry.get("phrases", [])]
    return re.findall(r"\w+", str(phrases))


def _superseded() -> State[None] | None:
    """The end of a scheduled run that had to wait so long that the next one is due, too: one of them is enough."""
    if not server.later_scheduled_run():
        return None
    return Completed(name=Ending.SKIPPED, message="A later scheduled run of this deployment is due already.")


@dataclass(frozen=True)
class Place:
    """Where a run keeps things and publishes, which mirror it tries first, and the table of corrected labels."""

    store: Path
    models: Path
    mirror: str | None
    labels: Reference | None

    def model(self, data: str, wanted: str | None) -> tuple[str, list[Path]]:
        """The name of the model, and its versions that were published before this run."""
        name = model_name(data, wanted)
        return name, list(versions(self.models / name))


def check(settings: FlowSettings) -> None:
    """Check the settings before any work.

    Raises:
        UserError: something cannot work.
    """
    settings.check()
    notifications.require_block(settings.notify)


def begin(settings: TrainingSettings) -> Place:
    """Check the settings before any work; raises as `check` does."""
    check(settings)
    mirror = settings.mirror or os.environ.get(MIRROR)
    labels = Reference.to(settings.labels) if settings.labels else None
    return Place(settings.store.absolute(), settings.models.absolute(), mirror, labels)


def require_no_failures(failures: dict[str, str], version: Reference) -> None:
    """End a run in which some architecture could not be trained, after the others have been published.

    Raises:
        UserError: there is one; names the version that was published all the same.
    """
    if failures:
        raise UserError(f"{' '.join(failures.values())} The best of the others is published: {version.path}.")


def end(outcome: Outcome, dataset: Reference) -> State[Reference]:
    """A flow's last state, after its page was shown; the flow's caller gets a reference to the version."""
    show_outcome(outcome, Dataset.open(dataset.path))
    return Completed(name=outcome.ending, message=outcome.message, data=Reference.to(outcome.version))


def end_following(checkpoints: dict[str, Reference]) -> State[Reference]:
    """As `end`, of a run that trained for another machine's; the flow's caller gets a reference to a checkpoint."""
    message = f"Trained {', '.join(checkpoints)} together with worker 0, which publishes."
    return Completed(name=Ending.FOLLOWED, message=message, data=next(iter(checkpoints.values())))


def end_scoring(scores: Reference) -> State[Reference]:
    """As `end`, of a run that scored images; the flow's caller gets a reference to the file of scores."""
    summary = Summary.of(scores.path)
    show_scores(summary, scores.path)
    return Completed(name=Ending.SCORED, message=summary.sentence, data=scores)
