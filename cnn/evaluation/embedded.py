"""Images with their features and with probabilities by heads that do not know them: what an audit judges them by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.support.errors import UserError
from cnn.training.checkpoints import Checkpoint
from cnn.training.features import FeatureStore, embed
from cnn.training.head import solve_head
from cnn.training.hyperparameters import HeadStage

_STAGE = HeadStage()


@dataclass(frozen=True)
class Embedded:
    """The images of a dataset in the order of its splits: ids and labels (n,), features (n, channels)."""

    ids: list[str]
    labels: NDArray[np.int64]
    features: NDArray[np.float32]

    @classmethod
    def of(cls, dataset: Dataset, start: Checkpoint, folder: Path) -> Self:
        """Embed all images with the network ``start``; ``folder``, which is made, keeps the features."""
        ids, labels = _ids_and_labels(dataset)
        folder.mkdir()
        embed(dataset, start, folder, splits=dataset.splits)
        return cls(ids, labels, FeatureStore(folder).load(ids))

    def judge(self) -> NDArray[np.float64]:
        """Probabilities (n, classes) of each image by a head that was solved without it and its copies."""
        _, first, place = np.unique(self.ids, return_index=True, return_inverse=True)
        return solve_head(self.features[first], self.labels[first], _STAGE).held_out[place]


def require_enough(dataset: Dataset) -> None:
    """Refuse, before the images are embedded, a class that lacks an image for some fold of `Embedded.judge`.

    Raises:
        UserError: names the class.
    """
    ids, labels = _ids_and_labels(dataset)
    _, first = np.unique(ids, return_index=True)
    for name, count in zip(dataset.classes, np.bincount(labels[first], minlength=len(dataset.classes)), strict=True):
        if count < _STAGE.folds:
            raise UserError(
                f"class {name}: expected {_STAGE.folds} different images or more, found {count}: add some, as every "
                "image is judged by a model that does not know it."
            )


def learnt_images(
    dataset: Dataset, trained: Checkpoint, features: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (n, channels) and probabilities (n, classes) of all images, nan where the head did not learn from them.

    Args:
        trained: a head that was solved; the probabilities are those of heads that do not know the image.
        features: the folder that it was solved from.
    """
    place = {image_id: number for number, image_id in enumerate(trained.held_out["ids"].tolist())}
    ids = _ids_and_labels(dataset)[0]
    known = [number for number, image_id in enumerate(ids) if image_id in place]
    learnt = [ids[number] for number in known]
    probabilities = trained.held_out["probabilities"][[place[image_id] for image_id in learnt]]
    return _spread(FeatureStore(features).load(learnt), known, len(ids)), _spread(probabilities, known, len(ids))


def _spread(values: NDArray[np.float32], places: Sequence[int], count: int) -> NDArray[np.float32]:
    """Rows at their places among ``count``, the others nan.

    >>> _spread(np.ones((1, 1), np.float32), [1], count=2).tolist()
    [[nan], [1.0]]
    """
    spread = np.full((count, values.shape[1]), np.nan, values.dtype)
    spread[places] = values
    return spread


def _ids_and_labels(dataset: Dataset) -> tuple[list[str], NDArray[np.int64]]:
    found = [dataset.ids_and_labels(split) for split in dataset.splits]
    return [image_id for ids, _ in found for image_id in ids], np.concatenate([labels for _, labels in found])
