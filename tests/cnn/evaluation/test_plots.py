"""Figures, by what their axes hold."""

from pathlib import Path

import numpy as np
from PIL import Image

from cnn.evaluation.plots import comparison_curves, confusion_plot, learning_curves, save_figure

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
    loss, accuracy, f1 = learning_curves(HISTORY, kept=1).axes
    train, kept = loss.lines
    np.testing.assert_array_equal(train.get_ydata(), [np.nan, 1.2, 0.8])
    assert set(np.ravel(kept.get_xdata())) == {1} and train.get_label() == "train"
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [0.1, 0.5, 0.6])
    assert len(f1.lines) == 1  # nothing was measured, only the mark is there


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
