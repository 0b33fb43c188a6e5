"""The outlook: whether more images would help, from how F1 grew with their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnn.evaluation.intervals import draw_f1
from cnn.training.checkpoints import Facts
from cnn.training.metrics import scores

#: A gain of F1 that hardly counts.
_LITTLE = 0.005
_FEWEST_POINTS = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outlook:
    """A learning curve and the power law 1 - F1 = a · n^-b that is fitted to it.

    Attributes:
        sizes: numbers of images, (k,), that were learnt from.
        f1: the F1 scores, (k,).
        low, high: their 95 % intervals, (k,).
        images: how many images there are; of very many, the sizes are those of a sample.
        laws: ln a and -b, (2, 1 + draws), first of ``f1``, then of scores that are drawn anew from their intervals
            (parametric bootstrap: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 6.5).
    """

    sizes: Floats
    f1: Floats
    low: Floats
    high: Floats
    images: int
    laws: Floats

    @classmethod
    def of(cls, curve: Sequence[Facts], positive: int | None, images: int) -> "Outlook | None":
        """The outlook of a checkpoint's ``learning_curve``, for a class or the mean of all; None: it is too short."""
        if len(curve) < _FEWEST_POINTS:
            return None
        confusions = [np.array(point["confusion"]) for point in curve]
        sizes = np.array([point["images"] for point in curve], float)
        f1 = np.array([scores(confusion, positive).f1 for confusion in confusions])
        drawn = np.stack([draw_f1(confusion, positive, seed) for seed, confusion in enumerate(confusions)])
        least = 0.5 / confusions[0].sum()  # half a mistake, if there is none
        errors = np.maximum(1 - np.concatenate([f1[:, None], drawn], 1), least)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
        return cls(sizes, f1, low, high, images, np.polyfit(np.log(sizes), np.log(errors), 1)[::-1])

    def expected(self, images: float) -> Floats:
        """F1 by each of the laws for so many images, (1 + draws,)."""
        return 1 - np.exp(self.laws[0] + self.laws[1] * np.log(images))

    @property
    def sentence(self) -> str:
        """Whether more images would help, with the uncertainty of the answer."""
        now, later = self.expected(self.images), self.expected(2 * self.images)
        low, high = np.quantile((later - now)[1:], [0.025, 0.975])
        if low > 0 and later[0] - now[0] >= _LITTLE:
            answer = "More images would help"
        elif high < 2 * _LITTLE:
            answer = "More images of the same kind would hardly help"
        else:
            answer = "It is uncertain whether more images would help"
        return (
            f"{answer}: by the learning curve, twice as many ({2 * self.images:,}) would change F1 by "
            f"{later[0] - now[0]:+.3f} (95 % interval {low:+.3f} to {high:+.3f})."
        )
