"""Outcomes: how a run completed, by name, and a sentence that says what came of it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from cnn.data.datasets import Dataset
from cnn.publication.contents import new_images
from cnn.publication.manifest import Manifest
from cnn.publication.model_card import published_at
from cnn.support.references import Reference


class Ending(StrEnum):
    """How a run completes: the names of its last state."""

    NEW_CHAMPION = "New champion"
    NOT_PROMOTED = "Not promoted"
    UNCHANGED = "Unchanged"
    TOO_FEW_NEW = "Too few new images"
    SKIPPED = "Skipped"
    SCORED = "Scored"
    FOLLOWED = "Followed"

    @property
    def published(self) -> bool:
        """Whether there is a new version."""
        return self in (Ending.NEW_CHAMPION, Ending.NOT_PROMOTED)


#: Which runs somebody wants to hear of: those that failed, those that changed something, too, or all.
News = Literal["failures", "changes", "everything"]


def is_news(ending: Ending, news: News) -> bool:
    """Whether a completed run is among those that somebody wants to hear of.

    >>> is_news(Ending.NEW_CHAMPION, "changes"), is_news(Ending.UNCHANGED, "changes")
    (True, False)
    """
    return news == "everything" or (news == "changes" and ending.published)


@dataclass(frozen=True)
class Outcome:
    """What came of a run: how it completed, a sentence, and the version that it is about."""

    ending: Ending
    message: str
    version: Path


def too_few_new(dataset: Reference, published: list[Path], min_new: int) -> Outcome | None:
    """The outcome of a run whose images are not worth a training; None if ``min_new`` or more are new.

    New are those that the last of the ``published`` versions was not made from; without one, all are.
    """
    if not (published and min_new):
        return None
    last = published[-1]
    new = new_images(Dataset.open(dataset.path), last)
    if new >= min_new:
        return None
    found = f"New images since {last.parent.name} {last.name}: {new} of the {min_new} wanted."
    return Outcome(Ending.TOO_FEW_NEW, f"{found} Nothing was trained or published.", last)


def of_version(version: Reference, published: list[Path]) -> Outcome:
    """The outcome of a run that ended with a version; ``published`` are those that there were when it began."""
    manifest = Manifest.open(version.path)
    name = f"{manifest.name} {manifest.version}"
    if version.path in published:
        made = f"{name} of {published_at(manifest)}"
        if version.path == published[-1]:
            return Outcome(Ending.UNCHANGED, f"Nothing has changed since {made}: nothing was published.", version.path)
        found = f"{made} was made from this data and these settings: nothing was published."
        return Outcome(Ending.UNCHANGED, found, version.path)
    ending, is_ = (Ending.NEW_CHAMPION, "is") if manifest.promoted else (Ending.NOT_PROMOTED, "is not")
    return Outcome(ending, f"{name} is published and {is_} the champion. {manifest.reason}", version.path)
