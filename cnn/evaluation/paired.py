"""Paired comparison: how much better a candidate is than the champion on the same images, and how sure that is."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

#: Metrics by which two classifiers are compared, and how they are written.
FIGURES = {"f1": "F1", "accuracy": "accuracy"}
_DRAWS = 2000

Indices = NDArray[np.int64]


class PairedComparison(BaseModel):
    """Two classifiers on the same images, by one metric.

    Attributes:
        figure: a key of `FIGURES`.
        images: how many there are.
        gained: images that only the candidate answers correctly.
        lost: images that only the champion answers correctly.
        candidate, champion: their metric, 0…1.
        low, high: 95 % interval of candidate - champion, -1…1.
        p: of McNemar's exact test, 0…1: how probable so uneven a share of ``gained`` and ``lost`` is for two equals.
    """

    model_config = ConfigDict(frozen=True)

    figure: str
    images: int
    gained: int
    lost: int
    candidate: float
    champion: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        """How much better the candidate is, -1…1."""
        return self.candidate - self.champion

    @property
    def sentence(self) -> str:
        """The figures in words, without a full stop."""
        return (
            f"{FIGURES[self.figure]} {self.candidate:.4f} against {self.champion:.4f} on the same {self.images:,} "
            f"images, difference {self.difference:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f}), "
            f"answers gained: {self.gained}, lost: {self.lost}, p {self.p:.2g}"
        )


def compare_paired(
    labels: Indices,
    candidate: Indices,
    champion: Indices,
    *,
    classes: int,
    positive: int | None,
    figure: str,
    seed: int = 0,
) -> PairedComparison:
    """Compare the classes that two classifiers predict for the same images.

    The interval is the percentile bootstrap's: images are drawn anew with both predictions, as many of each class as
    there are (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13). The same arguments give the
    same interval.

    Args:
        labels, candidate, champion: true and predicted classes, (n,), n ≥ 1, each 0…classes - 1.
        positive: the class of the F1 score; None: the mean over the classes.
        figure: a key of `FIGURES`.

    >>> labels, good, bad = np.arange(200) % 2, np.arange(200) % 2, np.zeros(200, int)
    >>> found = compare_paired(labels, good, bad, classes=2, positive=None, figure="accuracy")
    >>> found.difference, found.gained, found.lost, found.p < 0.001
    (0.5, 100, 0, True)
    """
    cells, counts = np.unique(np.stack([labels, candidate, champion]), axis=1, return_counts=True)
    draws = np.stack([counts, *_draw(cells[0], counts, np.random.default_rng(seed)).T])
    mine, theirs = (_measure(draws, cells[0], predicted, classes, positive)[figure] for predicted in cells[1:])
    low, high = np.quantile(mine[1:] - theirs[1:], [0.025, 0.975])
    right, was_right = candidate == labels, champion == labels
    gained, lost = int((right & ~was_right).sum()), int((was_right & ~right).sum())
    return PairedComparison(
        figure=figure, images=len(labels), gained=gained, lost=lost, p=mcnemar(gained, lost),
        candidate=float(mine[0]), champion=float(theirs[0]), low=float(low), high=float(high),
    )  # fmt: skip


def _draw(labels: Indices, counts: Indices, rng: np.random.Generator) -> Indices:
    """Numbers of images in each cell, (cells, draws), drawn anew as often from each class as it has images."""
    drawn = np.zeros((len(labels), _DRAWS), np.int64)
    for label in np.unique(labels):
        of_class = counts[labels == label]
        drawn[labels == label] = rng.multinomial(of_class.sum(), of_class / of_class.sum(), _DRAWS).T
    return drawn


def _measure(
    draws: Indices, labels: Indices, predicted: Indices, classes: int, positive: int | None
) -> dict[str, NDArray[np.float64]]:
    """The metrics of `FIGURES`, (draws,), of counts (draws, cells) of images with a label and a prediction (cells,)."""
    asked, said = np.eye(classes)[labels], np.eye(classes)[predicted]
    hits = draws @ (asked * said)
    f1 = 2 * hits / np.maximum(1, draws @ (asked + said))
    chosen = f1.mean(1) if positive is None else f1[:, positive]
    return {"f1": chosen, "accuracy": hits.sum(1) / draws.sum(1)}


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test, 0…1, of how often only the one and only the other of two was right.

    Q. McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages".

    >>> mcnemar(5, 0), mcnemar(0, 0)
    (0.0625, 1.0)
    """
    from scipy.stats import binomtest  # it takes a second

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
