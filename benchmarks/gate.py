"""How often each rule of the gate promotes: what is worse, what differs by chance only, and what is better.

    python benchmarks/gate.py --data FOLDER --weights FILE [--retrainings 20] [--seed 0]

The folder has a train and a test split. Photos are embedded once. The head of all training photos is solved as in
recipe ``tuned``, the others with the strength of the penalty that was chosen for it; all answer the middle of the test
photos. In each retraining, champion and candidate are solved from:

    worse         all photos; all, a fifth of their labels changed
    drawn         all photos; as many, drawn from them with replacement
    chance        as many, drawn with replacement; others, drawn in the same way
    a tenth more  nine tenths of the photos, drawn; all
    better        a tenth of the photos, drawn; all

--quick: 3 retrainings on drawn images with random weights; the figures mean nothing.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.preparation import prepare
from cnn.evaluation.paired import PairedComparison, compare_paired
from cnn.publication.gate import Promotion, permits
from cnn.support.commandline import run
from cnn.training.checkpoints import pretrained
from cnn.training.features import FeatureStore, embed
from cnn.training.head import solve_head
from cnn.training.hyperparameters import HeadStage
from cnn.training.metrics import positive_class
from cnn.training.recipes import hotdog_recipe

Indices = NDArray[np.int64]
MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05)


class Photos:
    """Features and labels of the training and of the test photos, and heads that are solved from some of the former."""

    def __init__(self, data: Path, weights: Path, folder: Path) -> None:
        dataset = prepare(data, folder / "dataset")
        start, learnt = pretrained(weights), dataset.splits[:-1]
        embed(dataset, start, folder / "features", splits=dataset.splits)
        store, self.classes = FeatureStore(folder / "features"), dataset.classes
        found = [dataset.ids_and_labels(split) for split in learnt]
        self.features = store.load([id_ for ids, _ in found for id_ in ids])
        self.labels = np.concatenate([labels for _, labels in found])
        ids, self.asked = dataset.ids_and_labels(dataset.splits[-1])
        self.questions = store.load(ids)
        (stage,) = hotdog_recipe("tuned").stages
        assert isinstance(stage, HeadStage)
        strength = solve_head(self.features, self.labels, stage).strength
        self.stage = stage.replace(strengths=(strength,))

    def answers(self, chosen: Indices, labels: Indices) -> Indices:
        """The test photos' classes by a head that is solved from some training photos with these labels."""
        head = solve_head(self.features[chosen], labels[chosen], self.stage)
        return (self.questions @ head.weight.T + head.bias).argmax(1)

    def compare(self, candidate: Indices, champion: Indices) -> PairedComparison:
        """Both answers, by the F1 score."""
        positive = positive_class(self.classes, None)
        return compare_paired(
            self.asked, candidate, champion, classes=len(self.classes), positive=positive, figure="f1"
        )


def comparisons(photos: Photos, retrainings: int, seed: int) -> Iterator[dict[str, PairedComparison]]:
    """Candidates of each kind against their champions; for each retraining."""
    labels, everything = photos.labels, np.arange(len(photos.labels))
    champion = photos.answers(everything, labels)
    for number in range(retrainings):
        rng = np.random.default_rng((seed, number))
        changed = np.where(rng.random(len(labels)) < 0.2, (labels + 1) % len(photos.classes), labels)
        drawn, other = (photos.answers(_drawn(labels, rng), labels) for _ in range(2))
        most, few = (photos.answers(_part(labels, share, rng), labels) for share in (0.9, 0.1))
        yield {
            "worse": photos.compare(photos.answers(everything, changed), champion),
            "drawn": photos.compare(drawn, champion),
            "chance": photos.compare(drawn, other),
            "a tenth more": photos.compare(champion, most),
            "better": photos.compare(champion, few),
        }


def _part(labels: Indices, share: float, rng: np.random.Generator) -> Indices:
    """A share 0…1 of the photos of each class, two at least."""
    return np.concatenate([each[: max(2, round(share * len(each)))] for each in _shuffled(labels, rng)])


def _shuffled(labels: Indices, rng: np.random.Generator) -> list[Indices]:
    """The photos of each class in random order."""
    return [rng.permutation(np.flatnonzero(labels == number)) for number in np.unique(labels)]


def _drawn(labels: Indices, rng: np.random.Generator) -> Indices:
    """As many photos of each class as there are, drawn with replacement."""
    return np.concatenate([rng.choice(each, len(each)) for each in _shuffled(labels, rng)])


def rules() -> dict[str, Callable[[PairedComparison], bool]]:
    """What is compared: by name, whether a candidate is promoted."""

    def rule(promote: Promotion, margin: float) -> Callable[[PairedComparison], bool]:
        return lambda found: permits(found, promote, margin)

    found: dict[str, Callable[[PairedComparison], bool]] = {"F1 not lower": lambda found: found.difference >= 0}
    found |= {f"not-worse, margin {margin:g}": rule("not-worse", margin) for margin in MARGINS}
    return found | {"better": rule("better", 0.0)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how many candidates of each kind each rule promotes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrainings", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parse(parser, arguments, ["data", "weights"], retrainings=3)
    with working_folder(options, images=8) as folder:
        found = list(comparisons(Photos(options.data, options.weights, folder), options.retrainings, options.seed))
    print(describe_conditions(options.retrainings, [options.seed]))
    kinds = list(found[0])
    print("| rule |", " | ".join(kinds), "|")
    print("|---" * (len(kinds) + 1) + "|")
    for name, promotes in rules().items():
        print(f"| {name} |", " | ".join(str(sum(promotes(each[kind]) for each in found)) for kind in kinds), "|")
    for kind in kinds:
        differences = [each[kind].difference for each in found]
        width = np.mean([each[kind].high - each[kind].low for each in found])
        mean, deviation = np.mean(differences), np.std(differences)
        print(f"{kind}: F1 {mean:+.4f} ± {deviation:.4f} (standard deviation), its 95 % interval {width:.4f} wide")


if __name__ == "__main__":
    run(main)
