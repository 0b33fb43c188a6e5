"""What all benchmarks share: their arguments, the tiny data of their quick mode, and a line about the machine."""

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

import cnn
from cnn.data.sample import CLASSES, SIZE, draw
from cnn.data.sources import SPLITS
from cnn.networks.initializers import random_parameters
from cnn.training.checkpoints import save_parameters

_TILE = 32  # px


def parse(
    parser: ArgumentParser, arguments: Sequence[str] | None, paths: Sequence[str] = (), **quick: Any
) -> Namespace:
    """Parse the command line, or ``arguments``.

    Adds a flag for each of ``paths``, which is required, and ``--quick``, with which no path is required and the
    defaults of other flags are those of ``quick``.
    """
    parser.formatter_class, parser.allow_abbrev = RawDescriptionHelpFormatter, False
    arguments = sys.argv[1:] if arguments is None else arguments
    is_quick = "--quick" in arguments
    for name in paths:
        parser.add_argument(f"--{name}", type=Path, required=not is_quick)
    parser.add_argument("--quick", action="store_true", help="a short run on tiny drawn data: its figures mean nothing")
    if is_quick:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)


@contextmanager
def working_folder(options: Namespace, images: int = 0) -> Iterator[Path]:
    """A temporary folder for a benchmark.

    In quick mode, ``options.data`` and ``options.weights`` (where there are such flags) become tiny drawn data of so
    many ``images``, see `write_tiles`, and random weights.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        if options.quick and "data" in options:
            options.data = write_tiles(folder / "tiles", images)
        if options.quick and "weights" in options:
            options.weights = folder / "random.npz"
            save_parameters(options.weights, random_parameters(seed=0))
        yield folder


def write_tiles(folder: Path, images: int) -> Path:
    """Write ``images`` (at most 64) of 32 px for each class and split, cut out of drawn ones; returns the folder."""
    side = SIZE // _TILE
    for number, split in enumerate(SPLITS):
        for label in CLASSES:
            place = folder / split / label
            place.mkdir(parents=True)
            tiles = draw(label, 0, number).reshape(side, _TILE, side, _TILE, 3).swapaxes(1, 2)
            for index, tile in enumerate(tiles.reshape(-1, _TILE, _TILE, 3)[:images]):
                Image.fromarray(tile).save(place / f"{index}.png")
    return folder


def publish_tiles(options: Namespace, folder: Path) -> Path:
    """Publish a network of random features that learnt from quick mode's tiny data; returns the folder of models."""
    dataset, recipe = cnn.prepare(options.data, folder / "dataset"), cnn.hotdog_recipe("tuned")
    cnn.save_checkpoint(
        folder / "checkpoint", cnn.transfer(dataset, cnn.pretrained(options.weights), *recipe.stages, positive=None)
    )
    cnn.evaluate(folder / "checkpoint", dataset, folder / "report")
    version = cnn.publish(
        name="tiles",
        checkpoint=folder / "checkpoint",
        report=folder / "report",
        dataset=dataset,
        lineage=cnn.Lineage.of(dataset, recipe, source="tiles"),
        models=folder / "models",
    )
    return version.parent.parent


def describe_conditions(n: int, seeds: Sequence[int] = ()) -> str:
    """A line for the figures of a benchmark: how often each was measured, with which random seeds, on what machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    conditions = [
        f"n {n}",
        *([f"seeds {' '.join(map(str, seeds))}"] if seeds else []),
        f"{os.cpu_count()} cores of {names[0] if names else 'an unknown processor'}",
        f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}",
    ]
    return ", ".join(conditions)
