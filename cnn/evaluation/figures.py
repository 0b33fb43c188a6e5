"""Figures without a screen: making and saving them; an image, and beside it where the network looked."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cnn.evaluation.lettering import draw_as_it_is, legible
from cnn.support.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 110
_NOTE_CHARACTERS_PER_INCH, _NOTE_INCHES_PER_LINE = 18, 0.15  # at 7 points


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure  # takes half a second, and a cached run draws nothing

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path, notes: Sequence[str] = ()) -> None:
    """Write a figure as PNG, with notes in small print below it."""
    if notes:
        characters = int(figure.get_figwidth() * _NOTE_CHARACTERS_PER_INCH)
        lines = [line for note in notes for line in wrap(legible(note), characters)]
        figure.set_figheight(figure.get_figheight() + _NOTE_INCHES_PER_LINE * len(lines))
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7)
    draw_as_it_is(figure)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)


def with_evidence(crop: Image.Image, evidence: NDArray[np.float32]) -> Image.Image:
    """An RGB crop in grey under what speaks for an answer (red) and against it (blue), by position, (height, width).

    >>> with_evidence(Image.new("RGB", (8, 8)), np.ones((2, 2), np.float32)).size
    (8, 8)
    """
    from matplotlib import colormaps

    enlarged = Image.fromarray(evidence).resize(crop.size, Image.Resampling.BILINEAR)
    most = float(np.abs(evidence).max()) or 1.0
    shares = 0.5 + np.asarray(enlarged) / (2 * most)
    colours = Image.fromarray(np.uint8(255 * colormaps["RdBu_r"](shares)[..., :3]))
    return Image.blend(ImageOps.grayscale(crop).convert("RGB"), colours, 0.5)


def seen_by_network(
    image: Image.Image, crop: Image.Image, caption: str, evidence: NDArray[np.float32] | None = None
) -> "Figure":
    """The notebook's ``classify_hotdog`` plot: the image, and beside it what the network sees.

    With ``evidence``, (height, width), a third part shows where it speaks for the answer, and where against.
    """
    shown = {"image": image, "what the network sees": crop}
    if evidence is not None:
        shown["red: for the answer, blue: against"] = with_evidence(crop, evidence)
    figure = new_figure(4 * len(shown), 4)
    for axis, (title, pixels) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axis.imshow(pixels)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.suptitle(legible(caption))
    return figure
