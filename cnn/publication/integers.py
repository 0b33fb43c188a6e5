"""A version's network in integers of 8 bits: made, and kept only if it answers as well as the other."""

import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, center_view, to_tensor
from cnn.evaluation.answers import Calibration
from cnn.networks.quantizing import quantize
from cnn.networks.sessions import Session
from cnn.publication.manifest import Integers
from cnn.support.parallel import ordered_map
from cnn.training.metrics import confusion_matrix, scores

#: F1 may be lower by so much.
MOST_LOST = 0.005
_SCALED_BY, _JUDGED_ON, _TIMED_ON = 64, 500, 30  # images; the second of each split


def write_integers(
    network: Path,
    path: Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    calibration: Calibration,
    positive: int | None,
) -> Integers:
    """Write an ONNX file anew in integers, and compare the two on images that are not test.

    The file is deleted again if its F1 is lower by more than half a point.

    Args:
        positive: index of the class whose F1 it is; None: the mean of all classes.
    """
    quantize(network, path, (_view(row, preprocessing) for row in dataset.some_rows("train", _SCALED_BY)))
    judged = [split for split in dataset.splits if split != "test"]  # test decides who is champion, and nothing else
    rows = [row for split in judged for row in dataset.some_rows(split, _JUDGED_ON)]
    labels, timed = np.array([row.label for row in rows]), [_view(row, preprocessing) for row in rows[:_TIMED_ON]]
    figures = []
    for file in (network, path):
        session = Session(file)
        views = ordered_map(partial(_view, preprocessing=preprocessing), rows)  # of which few are in memory at once
        probabilities = np.concatenate([found for found, *_ in session.all_outputs(views)])
        confusion = confusion_matrix(labels, calibration.decide(probabilities), len(dataset.classes))
        figures.append((scores(confusion, positive).f1, _images_per_second(session, timed)))
    (full, full_speed), (f1, speed) = figures
    kept = f1 >= full - MOST_LOST
    found = Integers(
        images=len(labels),
        f1=f1,
        full_f1=full,
        speedup=round(speed / full_speed, 2),
        bytes=path.stat().st_size,
        kept=kept,
    )
    if not kept:
        path.unlink()
    return found


def _view(row: Row, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """An image as the network's input, (1, 3, side, side)."""
    return to_tensor([center_view(decode(row.data), preprocessing)], preprocessing)


def _images_per_second(session: Session, views: list[NDArray[np.float32]]) -> float:
    begin = time.perf_counter()
    for view in views:
        session.run(view)
    return len(views) / (time.perf_counter() - begin)
