"""Results of trainings on CIFAR-10, and a table of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

#: The variant that is the notebook's own loop, with which the table compares the others.
AS_WRITTEN = "as-written"


@dataclass
class Run:
    """A training on so many ``images``: accuracy 0…1 after each epoch and its seconds; accuracy on test at the end."""

    architecture: str
    variant: str
    seed: int
    images: int
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    training_seconds: list[float] = field(default_factory=list)
    outside_network: float = float("nan")
    test: float = float("nan")

    def add(self, accuracy: float, seconds: float, training_seconds: float) -> None:
        """Add an epoch and print it."""
        self.accuracies.append(accuracy)
        self.seconds.append(seconds)
        self.training_seconds.append(training_seconds)
        epoch = f"{self.variant} {self.architecture}, seed {self.seed}, epoch {len(self.accuracies)}"
        print(f"{epoch}: {accuracy:.3f}, {seconds:.1f} s ({training_seconds:.1f} s of training)", flush=True)

    def seconds_to(self, accuracy: float) -> float:
        """Seconds to the end of the first epoch with at least this accuracy; infinite if there is none."""
        reached = np.flatnonzero(np.array(self.accuracies) >= accuracy)
        return float(np.sum(self.seconds[: reached[0] + 1])) if len(reached) else float("inf")

    def cells(self, written: "Run | None") -> Iterator[str]:
        """The cells of its row behind network, seed and loop; ``written`` is the notebook's loop of the same seed."""
        total = sum(self.seconds)
        yield " ".join(f"{100 * accuracy:.1f}" for accuracy in self.accuracies)
        yield "" if np.isnan(self.test) else f"{100 * self.test:.1f}"
        yield f"{total:.0f}"
        yield f"{sum(written.seconds) / total:.2f}" if written else ""
        yield f"{len(self.seconds) * self.images / sum(self.training_seconds):.0f}"
        yield "" if np.isnan(self.outside_network) else f"{100 * self.outside_network:.1f}"
        yield f"{self.seconds_to(written.test):.0f}" if written else ""


def table(runs: list[Run]) -> Iterator[str]:
    """Lines of a Markdown table; ratios are to the loop as written, of the same network and seed."""
    header = (
        "network", "seed", "loop", "accuracy by epoch, %", "test, %", "s in all", "ratio of s", "training images/s",
        "outside the network, %", "s to the accuracy as written",
    )  # fmt: skip
    written = {(run.architecture, run.seed): run for run in runs if run.variant == AS_WRITTEN}
    rows: list[list[str]] = [[*header], ["---"] * len(header)]
    for run in runs:
        cells = run.cells(written.get((run.architecture, run.seed))) if run.seconds else ("diverged", *[""] * 6)
        rows.append([run.architecture, str(run.seed), run.variant, *cells])
    yield from (f"| {' | '.join(row)} |" for row in rows)
