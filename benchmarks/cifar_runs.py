"""What trainings on CIFAR-10 came to, and a table of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

#: Variant of the notebook's own loop, which the table compares others with.
AS_WRITTEN = "as-written"


@dataclass
class Run:
    """One training on so many pictures: accuracy 0…1 after each epoch, seconds that each took, accuracy on test."""

    architecture: str
    variant: str
    seed: int
    pictures: int
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    training_seconds: list[float] = field(default_factory=list)
    outside_network: float = float("nan")
    test: float = float("nan")

    def add(self, accuracy: float, seconds: float, training_seconds: float) -> None:
        """Add an epoch, and tell it."""
        self.accuracies.append(accuracy)
        self.seconds.append(seconds)
        self.training_seconds.append(training_seconds)
        where = f"{self.variant} {self.architecture}, seed {self.seed}, epoch {len(self.accuracies)}"
        print(f"{where}: {accuracy:.3f}, {seconds:.1f} s ({training_seconds:.1f} s of training)", flush=True)

    def seconds_to(self, accuracy: float) -> float:
        """Seconds to the end of the first epoch with this accuracy or more; infinite if there is none."""
        reached = np.flatnonzero(np.array(self.accuracies) >= accuracy)
        return float(np.sum(self.seconds[: reached[0] + 1])) if len(reached) else float("inf")


def table(runs: list[Run]) -> Iterator[str]:
    """Lines of a Markdown table; ratios are to the loop as written, of the same network and seed."""
    header = (
        "network", "seed", "loop", "accuracy by epoch, %", "test, %", "s in all", "ratio of s", "training pictures/s",
        "outside the network, %", "s to the accuracy as written",
    )  # fmt: skip
    yield from (f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header)))
    written = {(run.architecture, run.seed): run for run in runs if run.variant == AS_WRITTEN}
    for run in runs:
        if not run.seconds:
            yield f"| {run.architecture} | {run.seed} | {run.variant} | diverged |" + " |" * (len(header) - 4)
            continue
        total, goal = sum(run.seconds), written.get((run.architecture, run.seed))
        cells = (
            run.architecture,
            str(run.seed),
            run.variant,
            " ".join(f"{100 * accuracy:.1f}" for accuracy in run.accuracies),
            "" if np.isnan(run.test) else f"{100 * run.test:.1f}",
            f"{total:.0f}",
            f"{sum(goal.seconds) / total:.2f}" if goal else "",
            f"{len(run.seconds) * run.pictures / sum(run.training_seconds):.0f}",
            "" if np.isnan(run.outside_network) else f"{100 * run.outside_network:.1f}",
            f"{run.seconds_to(goal.test):.0f}" if goal else "",
        )
        yield f"| {' | '.join(cells)} |"
