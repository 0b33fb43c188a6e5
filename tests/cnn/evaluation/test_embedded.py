"""Images with what an audit judges them by, as far as a run has it already."""

from pathlib import Path

import numpy as np
from candidates import SMALL

from cnn.data.datasets import Dataset
from cnn.evaluation.embedded import learnt_images
from cnn.training.checkpoints import Checkpoint
from cnn.training.features import write_shard


def test_what_was_not_learnt_from_is_unknown(drawn_dataset: Dataset, tmp_path: Path) -> None:
    rng, (ids, _) = np.random.default_rng(0), drawn_dataset.ids_and_labels("validation")
    features, probabilities = (rng.random((len(ids), width), np.float32) for width in (5, 2))
    write_shard(tmp_path, list(zip(reversed(ids), features[::-1], strict=True)))
    held_out = {"ids": np.array(ids), "probabilities": probabilities}
    found = learnt_images(drawn_dataset, Checkpoint(SMALL, drawn_dataset.classes, {}, (), held_out=held_out), tmp_path)
    counts = [len(drawn_dataset.ids_and_labels(split)[0]) for split in drawn_dataset.splits]
    for values, expected in zip(found, (features, probabilities), strict=True):
        train, validation, test = np.split(values, np.cumsum(counts)[:-1])
        assert np.isnan(train).all() and np.isnan(test).all() and (validation == expected).all()
