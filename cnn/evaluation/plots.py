"""Plots: curves of a training, of a solved head, confusion matrices, image grids: figures without a screen."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cnn.evaluation.figures import new_figure
from cnn.evaluation.lettering import legible
from cnn.evaluation.outlook import Outlook
from cnn.evaluation.predictions import Predictions
from cnn.training.checkpoints import Epoch, Facts
from cnn.training.metrics import Confusion, scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def epoch_curves(history: Sequence[Epoch], kept: int) -> "Figure":
    """Loss, accuracy and F1 over the epochs; a line marks the one that was kept."""
    figure = new_figure(10, 3.6)
    axes: list[Axes] = list(figure.subplots(1, 3))
    numbers = np.arange(len(history))
    for axis, name in zip(axes, ("loss", "accuracy", "f1"), strict=True):
        for side, style in (("train", "--"), ("validation", "-")):
            values = [epoch.get(f"{side}_{name}", np.nan) for epoch in history]
            if not np.isnan(values).all():
                axis.plot(numbers, values, style, marker=".", label=side)
        axis.axvline(kept, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title="F1" if name == "f1" else name, xlabel="epoch (0: before training)")
        if name != "loss":
            axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return figure


def regularisation_path(path: Sequence[Facts], strength: float, positive: int | None) -> "Figure":
    """Cross-validated log loss, one standard error shaded, and F1 over the strength of a head's penalty.

    A line marks the strength that was chosen.

    Args:
        path: a checkpoint's ``path``.
        positive: the class of F1; None: the mean over all.
    """
    figure = new_figure(8, 3.6)
    losses, f1 = figure.subplots(1, 2)
    tried, loss, error = (
        np.array([each[name] for each in path]) for name in ("strength", "log_loss", "log_loss_error")
    )
    losses.plot(tried, loss, marker=".")
    losses.fill_between(tried, loss - error, loss + error, alpha=0.2)
    f1.plot(tried, [scores(np.array(each["confusion"]), positive).f1 for each in path], marker=".")
    for axis, title in ((losses, "cross-validated log loss"), (f1, "cross-validated F1")):
        axis.axvline(strength, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=title, xlabel=f"strength of the penalty (chosen: {strength:g})", xscale="log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(alpha=0.3)
    return figure


def learning_curve(outlook: Outlook) -> "Figure":
    """F1 with its 95 % intervals over the number of images that a head was solved from, and the fitted power law.

    The law goes on to twice the images, its 95 % interval shaded.
    """
    figure = new_figure(6, 4.2)
    axis = figure.subplots()
    below, above = np.maximum(0, outlook.f1 - outlook.low), np.maximum(0, outlook.high - outlook.f1)
    axis.errorbar(outlook.sizes, outlook.f1, (below, above), fmt=".", capsize=3, label="cross-validated, 95 % interval")
    numbers = np.geomspace(outlook.sizes[0], 2 * outlook.images, 50)
    laws = np.stack([outlook.expected(number) for number in numbers])
    axis.plot(numbers, laws[:, 0], label="power law")
    axis.fill_between(numbers, *np.quantile(laws[:, 1:], [0.025, 0.975], axis=1), alpha=0.2)
    axis.axvline(outlook.images, color="grey", linewidth=0.8, linestyle=":", label="all images")
    axis.set(title="\n".join(wrap(outlook.sentence, 80)), xlabel="images learnt from", ylabel="F1", xscale="log")
    axis.title.set_fontsize(8)
    axis.set_xticks([*outlook.sizes[::2], outlook.images, 2 * outlook.images])
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.xaxis.set_minor_formatter("")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def decision_curves(predictions: Predictions, classes: Sequence[str], positive: int | None) -> "Figure":
    """ROC, precision-recall and reliability curves: of the class ``positive``, or of each class against all others.

    The dots are the decisions that are made; the reliability curve is of the predicted class.
    """
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure = new_figure(11, 3.8)
    ranking, retrieval, reliability = figure.subplots(1, 3)
    predicted = predictions.predicted
    for number in range(len(classes)) if positive is None else [positive]:
        actual, called = predictions.labels == number, predicted == number
        if not actual.any() or actual.all():
            continue
        false_alarms, recalls, _ = roc_curve(actual, predictions.probabilities[:, number])
        (line,) = ranking.plot(false_alarms, recalls, label=legible(classes[number]))
        precisions, recalls, _ = precision_recall_curve(actual, predictions.probabilities[:, number])
        retrieval.plot(recalls, precisions, color=line.get_color())
        recall, false_alarm = called[actual].mean(), called[~actual].mean()
        ranking.plot(false_alarm, recall, "o", color=line.get_color())
        if called.any():
            retrieval.plot(recall, actual[called].mean(), "o", color=line.get_color())
    confidence = predictions.probabilities[np.arange(len(predicted)), predicted]
    right, said = calibration_curve(predicted == predictions.labels, confidence, n_bins=10, strategy="quantile")
    reliability.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    reliability.plot(said, right, marker=".")
    ranking.set(title="ROC", xlabel="false alarms", ylabel="recall")
    retrieval.set(title="precision and recall", xlabel="recall", ylabel="precision")
    reliability.set(title="reliability, tenths of the images", xlabel="probability of the prediction", ylabel="right")
    for axis in (ranking, retrieval, reliability):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    ranking.legend(frameon=False, fontsize=8)
    return figure


def comparison_curves(histories: Mapping[str, Sequence[Epoch]]) -> "Figure":
    """Validation accuracy and training loss of several networks, over epochs and over the seconds these took.

    Args:
        histories: name → epochs, each with ``seconds``; ``train_loss`` may be missing before training.
    """
    figure = new_figure(12, 7.2)
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for history in histories.values():
        times = (np.arange(len(history)), np.cumsum([epoch["seconds"] for epoch in history]))
        for row, measure in zip(grid, ("validation_accuracy", "train_loss"), strict=True):
            values = [epoch.get(measure, np.nan) for epoch in history]
            for axis, time in zip(row, times, strict=True):
                axis.plot(time, values, marker=".")
    for axis in grid.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelbottom=True, labelleft=True)
        axis.xaxis.set_major_formatter("{x:,g}")
    for row, measure in zip(grid, ("validation accuracy", "training loss"), strict=True):
        row[0].set(ylabel=measure, xlabel="epoch (0: before training)")
        row[0].xaxis.get_major_locator().set_params(integer=True)
        row[1].set(ylabel=measure, xlabel="seconds of training and evaluation")
    figure.legend(grid[0, 0].lines, list(map(legible, histories)), loc="outside right upper", frameon=False)
    return figure


def confusion_plot(confusions: dict[str, Confusion], classes: Sequence[str]) -> "Figure":
    """One matrix per split, counts written into the cells; rows are the labels."""
    side = max(3.6, 0.7 * len(classes) + 2)
    figure = new_figure(side * len(confusions), side)
    axes = np.atleast_1d(figure.subplots(1, len(confusions)))
    for axis, (split, confusion) in zip(axes, confusions.items(), strict=True):
        shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
        ticks, names = range(len(classes)), list(map(legible, classes))
        axis.set_xticks(ticks, names, rotation=30, ha="right")
        axis.set_yticks(ticks, names)
        axis.set(title=f"{legible(split)}: {confusion.sum():,} images", xlabel="prediction", ylabel="label")
    return figure


def image_grid(rows: dict[str, list[tuple[Image.Image, str]]]) -> "Figure":
    """Images with captions, of a line or more each, one titled row each; rows may differ in length."""
    columns = max(1, *(len(row) for row in rows.values()))
    figure = new_figure(1.75 * columns, 2.25 * len(rows))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (title, items) in zip(parts, rows.items(), strict=True):
        part.suptitle(legible(title), fontsize=10, x=0.01, ha="left")
        for axis, item in zip(np.atleast_1d(part.subplots(1, columns)), [*items, *[None] * columns], strict=False):
            axis.axis("off")
            if item:
                axis.imshow(item[0])
                axis.set_title("\n".join(map(legible, item[1].split("\n"))), fontsize=7)
    return figure
