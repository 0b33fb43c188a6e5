"""Does an audit find labels that are wrong on purpose, and is a head better without images with wrong labels?

    python benchmarks/audit.py --data FOLDER --weights FILE [--leave-out NAME …]

Flips a tenth of all labels, for each of --seeds anew, and prints which share of these is among as many images that the
audit ranks first. With --leave-out: F1 of the first class, by cross-validation on train and validation images without
these, of the head solved with and without them; each is divided into folds ten times. --quick: tiny drawn data; the
figures mean nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare
from cnn.evaluation.audit import rank_labels
from cnn.evaluation.embedded import Embedded
from cnn.support.commandline import run
from cnn.training.checkpoints import pretrained
from cnn.training.head import solve_head
from cnn.training.hyperparameters import HeadStage
from cnn.training.metrics import confusion_matrix, scores

_SHARE, _REPEATS = 0.1, 10


def share_found(embedded: Embedded, seed: int) -> float:
    """Share, 0…1, of labels flipped to another class that are among as many first ones."""
    rng, count = np.random.default_rng(seed), len(embedded.labels)
    flipped = rng.choice(count, round(_SHARE * count), replace=False)
    labels, classes = embedded.labels.copy(), int(embedded.labels.max()) + 1
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    probabilities = solve_head(embedded.features, labels, HeadStage()).held_out
    return float(np.isin(rank_labels(labels, probabilities)[: len(flipped)], flipped).mean())


def gains(dataset: Dataset, embedded: Embedded, names: Sequence[str]) -> np.ndarray:
    """F1 of the first class with and without these images, (repeats, 2)."""
    files = [name for split in dataset.splits for name in dataset.names(split)]
    learnt = np.arange(sum(sum(dataset.counts[split].values()) for split in ("train", "validation")))
    is_kept = ~np.isin(np.array(files)[learnt], names)
    features, labels = embedded.features[learnt], embedded.labels[learnt]
    stage = HeadStage(strengths=(solve_head(features, labels, HeadStage()).strength,))

    def f1(chosen: np.ndarray, seed: int) -> float:
        found = solve_head(features[chosen], labels[chosen], stage, seed).held_out[is_kept[chosen]]
        confusion = confusion_matrix(labels[is_kept], found.argmax(1), len(dataset.classes))
        return scores(confusion, 0).f1

    return np.array([[f1(learnt, seed), f1(learnt[is_kept], seed)] for seed in range(_REPEATS)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="NAME")
    options = parse(parser, arguments, ["data", "weights"], seeds=[0])
    with working_folder(options, images=8) as folder:
        dataset = prepare(options.data, folder / "dataset")
        embedded = Embedded.of(dataset, pretrained(options.weights), folder / "features")
        print(describe_conditions(len(options.seeds), options.seeds))
        shares = [share_found(embedded, seed) for seed in options.seeds]
        print(
            f"{len(embedded.labels):,} images, share of flipped labels found: {', '.join(f'{s:.3f}' for s in shares)}"
        )
        if options.leave_out:
            found = gains(dataset, embedded, options.leave_out)
            gain, error = np.diff(found)[:, 0], np.diff(found)[:, 0].std(ddof=1) / np.sqrt(_REPEATS)
            print(
                f"F1 {found[:, 0].mean():.4f}, without them {found[:, 1].mean():.4f}: {gain.mean():+.4f} ± {error:.4f}"
            )


if __name__ == "__main__":
    run(main)
