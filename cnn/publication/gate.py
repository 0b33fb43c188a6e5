"""The gate: whether a candidate may replace the champion, and whether it is of the same model at all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cnn.data.datasets import Dataset
from cnn.evaluation.paired import PairedComparison, compare_paired
from cnn.evaluation.predictions import Predictions, predict_split
from cnn.evaluation.report import Report, read_predictions
from cnn.publication.contents import image_ids, unaltered_predictions
from cnn.publication.manifest import Judgement, Lineage, Manifest, is_readable, versions
from cnn.publication.versions import is_first, load_version
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from cnn.training.checkpoints import checkpoint_file

#: When a candidate becomes the champion, see `permits`.
Promotion = Literal["not-worse", "better", "always", "never"]

MARGIN = 0.01
_FEW = 25  # with fewer answers that differ, McNemar's exact test is asked, too: the bootstrap's interval is too narrow
_ALPHA = 0.05
_BY_HAND = "to make this version the champion, use python -m cnn models promote."


@dataclass(frozen=True)
class Candidate:
    """A trained network that may be published: folders of its checkpoint and report, its dataset, its lineage.

    ``durations`` are the seconds of the steps that led to it; ``int8`` asks for its network in integers, too.
    """

    name: str
    checkpoint: Path
    report: Path
    dataset: Dataset
    lineage: Lineage
    durations: Mapping[str, float]
    int8: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether a version became the champion, and why, as a sentence."""

    promoted: bool
    reason: str
    judgement: Judgement | None = None


def require_same_source(dataset: Dataset, place: str, best: Path | None, promote: Promotion) -> None:
    """Refuse data that is not what ``best``, the champion, was made from: two sources may have the same name.

    A source at another place is the same if it has the same classes and an image in common: it was moved or copied.

    Args:
        place: what tells the source of ``dataset`` from others (`DataOrigin.place`); empty: it is not compared.

    Raises:
        UserError: asks for another name; or nothing can be compared with the champion.
    """
    if best is None or promote == "always":
        return
    if not is_readable(best):
        raise UserError(
            f"{best}: its manifest is of another release of this project, so nothing can be compared with it: to "
            'replace it, set promote to "always".'
        )
    manifest = Manifest.open(best)
    former, classes = manifest.lineage.data.place, manifest.classes
    if "" in (former, place) or former == place:
        return
    if dataset.classes != classes:
        found = f"has other classes ({', '.join(dataset.classes)} instead of {', '.join(classes)})"
    elif image_ids(best, dataset.splits).isdisjoint(
        id_ for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0]
    ):
        found = "has not one image in common with it"
    else:
        return
    raise UserError(
        f"name {manifest.name}: the champion {best.name} was made from {former}, and {place} {found}: "
        'give this model another name, or, to replace that one, set promote to "always".'
    )


def permits(found: PairedComparison, promote: Promotion, margin: float = MARGIN) -> bool:
    """Whether a rule lets a candidate replace the champion that it was compared with.

    ``not-worse``: the 95 % interval of candidate - champion does not reach below -``margin`` (0…1).
    ``better``: the interval is above 0 and, where few answers differ, McNemar's exact test says so, too (p < .05).
    """
    if promote == "better":
        return found.low > 0 and (found.gained + found.lost >= _FEW or found.p < _ALPHA)
    return promote == "always" or (promote == "not-worse" and found.low >= -margin)


def decide(
    candidate: Candidate,
    folder: Path,
    best: Path | None,
    promote: Promotion = "not-worse",
    margin: float = MARGIN,
) -> Decision:
    """Whether a candidate may replace ``best``, the champion: only if the rule `permits` it on the same test images.

    Images that the champion learnt from or was chosen by, because another recipe splits otherwise, do not count. Where
    there are no test images, validation images are compared on. Both are judged by the candidate's labels. If they
    cannot be compared, or versions were promoted and none of them can answer any more, the candidate is not promoted.
    """
    if promote == "always":
        return Decision(True, "It was promoted without a comparison, as promote is set to always.")
    if best is None:
        return _without_champion(candidate, folder, promote)
    decision = _compare(candidate, best, promote, margin)
    former = Manifest.open(best).lineage.data.place
    if candidate.lineage.data.place in ("", former) or not former:
        return decision
    return replace(decision, reason=f"{decision.reason} The data was at {former} when {best.name} was made.")


def _without_champion(candidate: Candidate, folder: Path, promote: Promotion) -> Decision:
    if promote == "never":
        return Decision(False, f"There is no champion, and promote is set to never: {_BY_HAND}")
    if is_first(folder):
        return Decision(True, "There was no champion to compare with.")
    network = file_digest(checkpoint_file(candidate.checkpoint))
    for version, manifest in versions(folder).items():
        if manifest.promoted and manifest.checkpoint == network:
            return Decision(True, f"It is the network of {version.name}, whose files were altered since.")
    return Decision(
        False,
        "No version that was promoted is intact, so there is no champion to compare with: restore one, or set promote "
        "to always to make this one the champion.",
    )


def _compare(candidate: Candidate, best: Path, promote: Promotion, margin: float) -> Decision:
    manifest, dataset = Manifest.open(best), candidate.dataset
    if manifest.classes != dataset.classes:
        return Decision(False, f"The classes changed, so {best.name} cannot be compared: {_BY_HAND}")
    split = dataset.splits[-1]
    # validation images count only if neither has anything else that is not learnt from
    is_fair = split == "validation" and "test" not in manifest.metrics
    known = image_ids(best, ("train",) if is_fair else ("train", "validation"))
    mine = read_predictions(candidate.report, split, dataset.classes).without(known)
    if not mine.ids:
        found = f"{best.name} was made from all of these {split} images, so it cannot be compared: {_BY_HAND}"
        return Decision(False, found)
    theirs = _champions_answers(best, dataset, split)
    positive = Report.open(candidate.report).positive
    paired = compare_paired(
        mine.labels,
        mine.predicted,
        np.array([theirs[id_] for id_ in mine.ids]),
        classes=len(dataset.classes),
        positive=None if positive is None else dataset.classes.index(positive),
        figure=candidate.lineage.chosen_by,
    )
    judgement = Judgement(champion=best.name, split=split, rule=promote, margin=margin, paired=paired)
    return Decision(permits(paired, promote, margin), describe(judgement), judgement)


def _champions_answers(best: Path, dataset: Dataset, split: str) -> dict[str, np.int64]:
    """The champion's class for each image of a split, by id: as it was published or, for other images, answered now."""
    published = unaltered_predictions(best, split)
    found = _by_id(published) if published else {}
    if not found.keys() >= set(dataset.ids_and_labels(split)[0]):
        found = _by_id(predict_split(load_version(best), dataset, split))
    return found


def _by_id(predictions: Predictions) -> dict[str, np.int64]:
    return dict(zip(predictions.ids, predictions.predicted, strict=True))


def describe(judgement: Judgement) -> str:
    """What came of a comparison with the champion, and on how much evidence, as sentences."""
    found, rule, margin = judgement.paired, judgement.rule, judgement.margin
    allowed = permits(found, "not-worse" if rule == "never" else rule, margin)
    if rule == "better":
        verdict = "Better than" if allowed else "Not shown to be better than"
    elif allowed:
        verdict = "Not worse than"
    else:
        verdict = "Worse than" if found.high < 0 else f"Possibly worse by more than {margin:g} than"
    sentences = [f"{verdict} the champion {judgement.champion}: {judgement.split} {found.sentence}."]
    if found.images * max(margin, MARGIN) < 1 and found.gained + found.lost:
        sentences.append(f"{found.images} images are too few to tell: a single answer counts for more than the margin.")
    if rule == "never":
        sentences.append(f"Promote is set to never: {_BY_HAND}")
    return " ".join(sentences)
