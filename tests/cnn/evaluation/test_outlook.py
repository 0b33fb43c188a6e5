"""The outlook, against curves of a known law."""

import numpy as np
import pytest

from cnn.evaluation.intervals import draw_f1, percentile_interval
from cnn.evaluation.outlook import Outlook
from cnn.training.checkpoints import Facts

SIZES = (50, 100, 200, 400, 800)


def curve(errors: list[float], images: int = 100_000) -> list[Facts]:
    """A learning curve with these shares of errors, in each of two classes of the same size: 1 - F1 is that share."""
    half = images // 2
    wrong = [round(error * half) for error in errors]
    return [
        {"images": size, "confusion": [[half - each, each], [each, half - each]]}
        for size, each in zip(SIZES, wrong, strict=True)
    ]


def law(factor: float, exponent: float) -> list[float]:
    return [factor * size**-exponent for size in SIZES]


@pytest.mark.parametrize("exponent", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("positive", [0, None])
def test_power_law_is_found(exponent: float, positive: int | None) -> None:
    outlook = Outlook.of(curve(law(0.6, exponent)), positive, 1000)
    assert outlook
    for images in (100, 5_000):
        assert 1 - outlook.expected(images)[0] == pytest.approx(0.6 * images**-exponent, rel=0.02)
        low, high = np.quantile(outlook.expected(images)[1:], [0.025, 0.975])
        assert low <= outlook.expected(images)[0] <= high


def test_points_have_the_intervals_of_f1() -> None:
    points = curve(law(0.6, 0.3), images=400)
    outlook = Outlook.of(points, 1, 400)
    assert outlook
    for low, high, point in zip(outlook.low, outlook.high, points, strict=True):
        assert (low, high) == pytest.approx(percentile_interval(draw_f1(np.array(point["confusion"]), 1)), abs=0.01)


@pytest.mark.parametrize(
    ("errors", "images", "answer"),
    [
        (law(0.9, 0.4), 10_000, "More images would help: "),
        (law(0.1, 0.0), 100_000, "More images of the same kind would hardly help: "),
        (law(0.2, 0.05), 100, "It is uncertain whether more images would help: "),
        ([0.0] * 5, 10_000, "More images of the same kind would hardly help: "),
    ],
)
def test_sentence_says_whether_more_would_help(errors: list[float], images: int, answer: str) -> None:
    outlook = Outlook.of(curve(errors, images), 0, images)
    assert outlook and outlook.sentence.startswith(answer)
    assert f"twice as many ({2 * images:,}) would change F1 by +" in outlook.sentence.replace("-0.000", "+0.000")


def test_a_sample_tells_of_all_images() -> None:
    outlook = Outlook.of(curve(law(0.6, 0.3), images=1000), 0, images=4000)
    assert outlook and "twice as many (8,000) would" in outlook.sentence
    gain = 0.6 * (4000**-0.3 - 8000**-0.3)
    assert f"F1 by {gain:+.3f}" in outlook.sentence


def test_three_points_are_needed() -> None:
    points = curve(law(0.5, 0.3))
    assert Outlook.of(points[:2], 0, 100) is None and Outlook.of([], 0, 100) is None
    assert Outlook.of(points[:3], 0, 100)
