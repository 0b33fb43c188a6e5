"""Figures, by what their axes hold."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from PIL import Image

from cnn.evaluation.figures import save_figure, seen_by_network
from cnn.evaluation.lettering import legible
from cnn.evaluation.outlook import Outlook
from cnn.evaluation.plots import (
    comparison_curves,
    confusion_plot,
    epoch_curves,
    image_grid,
    learning_curve,
    regularisation_path,
)

HISTORY = [
    {"epoch": 0, "seconds": 0.0, "validation_accuracy": 0.1},
    {"epoch": 1, "seconds": 30.0, "validation_accuracy": 0.5, "train_loss": 1.2},
    {"epoch": 2, "seconds": 20.0, "validation_accuracy": 0.6, "train_loss": 0.8},
]


def test_comparison_runs_over_epochs_and_seconds() -> None:
    slower = [epoch | {"seconds": 10 * epoch["seconds"]} for epoch in HISTORY]
    figure = comparison_curves({"lenet": HISTORY, "vgg": slower})
    accuracy, accuracy_by_time, loss, loss_by_time = figure.axes
    for axis, times in ((accuracy_by_time, [[0, 30, 50], [0, 300, 500]]), (accuracy, [[0, 1, 2]] * 2)):
        for line, expected in zip(axis.lines, times, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), expected)
            np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.5, 0.6])
    for axis in (loss, loss_by_time):
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), [np.nan, 1.2, 0.8])
    for axis in figure.axes:
        assert axis.get_xlabel() and axis.get_ylabel()
        assert [line.get_color() for line in axis.lines] == [line.get_color() for line in accuracy.lines]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lenet", "vgg"]


def test_curves_mark_the_epoch_that_was_kept() -> None:
    loss, accuracy, f1 = epoch_curves(HISTORY, kept=1).axes
    train, kept = loss.lines
    np.testing.assert_array_equal(train.get_ydata(), [np.nan, 1.2, 0.8])
    assert set(np.ravel(kept.get_xdata())) == {1} and train.get_label() == "train"
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [0.1, 0.5, 0.6])
    assert len(f1.lines) == 1  # nothing was measured, only the mark is there


def test_regularisation_path_marks_the_choice() -> None:
    tried = [
        {"strength": strength, "log_loss": loss, "log_loss_error": 0.1, "confusion": [[8, 2], [wrong, 10 - wrong]]}
        for strength, loss, wrong in ((1.0, 0.7, 10), (0.1, 0.4, 2), (0.01, 0.5, 0))
    ]
    losses, f1 = regularisation_path(tried, 0.1, 0).axes
    for axis, expected in ((losses, [0.7, 0.4, 0.5]), (f1, [2 * 8 / 28, 2 * 8 / 20, 2 * 8 / 18])):
        values, chosen = axis.lines
        np.testing.assert_array_equal(values.get_xdata(), [1.0, 0.1, 0.01])
        np.testing.assert_allclose(np.asarray(values.get_ydata()), expected)
        assert set(np.ravel(chosen.get_xdata())) == {0.1} and axis.get_xscale() == "log"
    (shade,) = losses.collections
    assert shade.get_paths()[0].get_extents().bounds[1::2] == pytest.approx((0.3, 0.5))  # lowest, and how high it is


def test_learning_curve_goes_on_to_twice_the_images() -> None:
    points = [
        {"images": images, "confusion": [[100 - wrong, wrong], [wrong, 100 - wrong]]}
        for images, wrong in ((20, 40), (40, 28), (80, 20), (160, 14))
    ]
    outlook = Outlook.of(points, 0, 200)
    assert outlook
    figure = learning_curve(outlook)
    (axis,) = figure.axes
    measured = axis.lines[0]
    law, all_images = (line for line in axis.lines if line.get_label() in ("power law", "all images"))
    np.testing.assert_array_equal(measured.get_xdata(), [20, 40, 80, 160])
    np.testing.assert_allclose(np.asarray(measured.get_ydata()), [0.6, 0.72, 0.8, 0.86])
    assert np.max(law.get_xdata()) == pytest.approx(400) and set(np.ravel(all_images.get_xdata())) == {200}
    assert axis.get_title().replace("\n", " ") == outlook.sentence


def test_confusion_has_its_counts_in_the_cells() -> None:
    confusion = np.array([[3, 1], [0, 1_234]])
    (axis,) = confusion_plot({"test": confusion}, ("ant", "bee")).axes
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}  # (column, row)
    assert cells == {(0, 0): "3", (1, 0): "1", (0, 1): "0", (1, 1): "1,234"}
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("prediction", "label", "test: 1,238 images")


def test_notes_stand_below_a_figure(tmp_path: Path) -> None:
    note = "The official test batch is missing, " + "and so on " * 20 + "to the end."
    sizes = {}
    for name, notes in (("plain", []), ("noted", [note])):
        figure = comparison_curves({"lenet": HISTORY[:1]})
        save_figure(figure, tmp_path / name, notes)
        sizes[name] = Image.open(tmp_path / name, formats=["PNG"]).size
        assert figure.get_supxlabel().replace("\n", " ") == "".join(notes)
    assert sizes["noted"][0] == sizes["plain"][0] and sizes["noted"][1] > sizes["plain"][1]


# ---- text from outside

NAMES = ("Ba$$in", "$5 not $1", "a\\$b", "_{x}^2 $\\frac{$", "ends\nin\x1b[31m", "猫", "🐶 café", "%s {x}")


def all_figures(names: tuple[str, ...]) -> list[Figure]:
    """A figure of each kind in which these names are drawn everywhere."""
    image = Image.new("RGB", (20, 20))
    confusion = np.eye(len(names), dtype=np.int64)
    return [
        comparison_curves(dict.fromkeys(names, HISTORY)),
        confusion_plot(dict.fromkeys(names[3:5], confusion), names),
        image_grid({name: [(image, f"{name} 99%")] for name in names}),
        seen_by_network(image, image, names[0]),
        *(seen_by_network(image, image, name) for name in names[1:]),
    ]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("taken for a formula")

    monkeypatch.setattr(MathTextParser, "parse", fail)
    for number, figure in enumerate(all_figures(NAMES)):
        save_figure(figure, tmp_path / f"{number}.png", NAMES)
        found = texts(figure)
        assert all(line.isprintable() for text in found for line in text.split("\n"))
        if number > 3:
            assert legible(NAMES[number - 3]) in found
        else:
            assert [text for text in found if "Ba$$in" in text]


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert legible("cat\u202egnp.exe \u200b\u00ad") == "cat\\u202egnp.exe \\u200b\\xad"  # DejaVu Sans has all three


def write_font(path: Path, *characters: str) -> None:
    """A font that has only these characters, as squares."""
    names = [f"u{ord(character):X}" for character in characters]
    pen = TTGlyphPen(None)
    for number, place in enumerate(((0, 0), (0, 700), (700, 700), (700, 0))):
        (pen.lineTo if number else pen.moveTo)(place)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(character): name for character, name in zip(characters, names, strict=True)})
    builder.setupGlyf(dict.fromkeys([".notdef", *names], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Test {path.stem}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_a_font_that_has_the_characters_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [font for font in fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(fontManager, "ttflist", known)
    assert (legible("猫 é"), legible("🐶")) == ("\\u732b é", "\\U0001f436")
    for number, character in enumerate("猫🐶"):
        write_font(tmp_path / f"{number}.ttf", character)
        fontManager.addfont(tmp_path / f"{number}.ttf")
    name = "猫 🐶 é"
    assert legible(name) == name
    figure = seen_by_network(Image.new("RGB", (9, 9)), Image.new("RGB", (9, 9)), name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "figure.png")
    assert figure.get_suptitle() == name
