"""Scoring: images per second from disk to Parquet, beside other ways to do it, and beside what sets the limit.

    python benchmarks/serving.py --data FOLDER --models FOLDER [--name NAME] [--torch PYTHON]

The champion scores all images below the folder; the others run the same network, or torchvision's SqueezeNet 1.1 with
as many views of an image. If the version holds its network in integers (runs with --int8), that takes part, too. Each
takes its turn in every repeat; figures are medians (lowest to highest). The network alone runs on arrays in memory;
decoding alone ends with such an array. MXNet's records are packed beforehand, which is not counted. Below the table
stands by how much a probability of the file that takes any image differs from the predictor's. --quick: tiny
drawn data, a network that learnt from it, and one repeat; the figures mean nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows.score import score as score_flow  # isort: skip  # before Prefect, which reads at its import what this sets
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from benchmarks.harness import describe_conditions, parse, publish_tiles, working_folder
from cnn.data.decoding import decode
from cnn.data.images import center_view, to_tensor
from cnn.networks.sessions import Session
from cnn.publication.champions import find_champion
from cnn.publication.manifest import Manifest
from cnn.publication.records import image_file, integer_file, network_files
from cnn.serving.predictor import Predictor
from cnn.serving.scoring import join_scores, save_scores, score
from cnn.serving.shards import cut
from cnn.support.backend import mx, physical_cores
from cnn.support.commandline import run
from cnn.support.errors import UserError
from cnn.support.parallel import ordered_map

_BATCH = 16  # images, of MXNet and PyTorch
_SHARD = 4000


@dataclass(frozen=True)
class Task:
    """What is measured: a version, the image files that it scores, and a folder for what that leaves."""

    version: Path
    data: Path
    folder: Path

    @property
    def manifest(self) -> Manifest:
        """The version's manifest."""
        return Manifest.open(self.version)

    @property
    def architecture(self) -> str:
        """Name of the version's network, by which its files are called."""
        return self.manifest.network.architecture

    @property
    def files(self) -> list[Path]:
        """The images."""
        return [self.data / name for shard in cut(self.data, _SHARD) for name in shard.names]


def this(task: Task, int8: bool = False) -> None:
    """What the flow does, without Prefect."""
    predictor, parts = Predictor(task.version, int8=int8), []
    for number, shard in enumerate(cut(task.data, _SHARD)):
        parts.append(task.folder / f"{number}.parquet")
        save_scores(parts[-1], score(predictor, shard.images()), predictor)
    join_scores(parts, task.folder / "scores.parquet")


def this_flow(task: Task) -> None:
    """The flow, with a store that holds nothing yet."""
    store = task.folder / f"store-{time.monotonic_ns()}"
    models, name = task.version.parent.parent, task.version.parent.name
    score_flow(input=task.data, output=store / "scores.parquet", store=store, models=models, name=name)


def pack_records(task: Task) -> None:
    """The images as MXNet has them, for `mxnet_records`."""
    writer = mx.recordio.MXIndexedRecordIO(str(task.folder / "photos.idx"), str(task.folder / "photos.rec"), "w")
    for number, file in enumerate(task.files):
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, 0.0, number, 0), file.read_bytes()))
    writer.close()


def mxnet_records(task: Task) -> None:
    """MXNet's own reader of images, and the network hybridized."""
    configuration = task.manifest.network
    preprocessing, (symbol, parameters, _) = configuration.preprocessing, network_files(configuration.architecture)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot decide type")
        net = mx.gluon.SymbolBlock.imports(str(task.version / symbol), ["data"], str(task.version / parameters))
    net.hybridize(static_alloc=True, static_shape=True)
    names = [f"{kind}_{channel}" for kind in ("mean", "std") for channel in "rgb"]
    values = [255 * value for value in (*(preprocessing.mean or ()), *(preprocessing.std or ()))]
    batches = mx.io.ImageRecordIter(
        path_imgrec=str(task.folder / "photos.rec"),
        data_shape=(3, preprocessing.crop, preprocessing.crop),
        resize=preprocessing.short_side,
        batch_size=_BATCH,
        preprocess_threads=physical_cores(),
        round_batch=True,
        **dict(zip(names, values, strict=True)),
    )
    images = (batch.data[0].as_in_context(mx.cpu()) for batch in batches)  # from pinned memory
    found = [mx.nd.softmax(net(each)).asnumpy() for each in images]
    probabilities = np.concatenate(found)[: len(task.files)]
    pq.write_table(
        pa.table({"name": list(map(str, task.files)), "p": probabilities[:, 0]}), task.folder / "mxnet.parquet"
    )


def decoding(task: Task) -> list[NDArray[np.float32]]:
    """Reading, decoding and resizing alone, on all cores."""
    preprocessing = task.manifest.network.preprocessing

    def read(file: Path) -> NDArray[np.float32]:
        return to_tensor([center_view(decode(file.read_bytes()), preprocessing)], preprocessing)

    return list(ordered_map(read, task.files))


def network(onnx: Path, arrays: Iterable[NDArray[np.float32]], _: Task) -> None:
    """The network alone, an image on each core."""
    for _outputs in Session(onnx).all_outputs(arrays):
        pass


def differences(task: Task) -> list[float]:
    """Of each image, by how much a probability of the file that takes any image differs from the predictor's."""
    predictor, session = Predictor(task.version), Session(task.version / image_file(task.architecture))
    pairs = ((predictor.predict(file).probabilities, decode(file.read_bytes())) for file in task.files)
    return [float(np.abs(session.run(np.asarray(image))[0][0] - expected).max()) for expected, image in pairs]


@dataclass(frozen=True)
class Cost:
    """Seconds that something took, and seconds that processors worked for it: these tell little of other programs."""

    seconds: float
    worked: float


def cost_of_pytorch(python: Path, task: Task) -> Cost:
    """What `benchmarks/serving_pytorch.py` costs, without its imports.

    Raises:
        UserError: the program failed; what it printed says why.
    """
    names = task.folder / "names.txt"
    names.write_text("\n".join(map(str, task.files)), encoding="utf-8")
    program, views = Path(__file__).with_name("serving_pytorch.py"), 1 + task.manifest.network.mirrored_mean
    command: list[str | Path] = [python, program, names, str(views), str(_BATCH), str(physical_cores())]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise UserError(
            f"{python}: expected a Python with torch and torchvision, found exit status {ended.returncode}: see above."
        )
    return Cost(**json.loads(ended.stdout))


def cost_of(function: Callable[[Task], object], task: Task) -> Cost:
    """What a contestant costs."""
    begin, worked = time.monotonic(), time.process_time()
    function(task)
    return Cost(time.monotonic() - begin, time.process_time() - worked)


def contestants(task: Task, torch: Path | None) -> Mapping[str, Callable[[], Cost]]:
    """What measures each contestant, by its name."""
    full, integers = network_files(task.architecture)[-1], integer_file(task.architecture)
    arrays = decoding(task)
    pack_records(task)
    functions: dict[str, Callable[[Task], object]] = {
        "this, without Prefect": this,
        "this flow": this_flow,
        "MXNet, ImageRecordIter": mxnet_records,
        "decoding alone": decoding,
        "network alone": partial(network, task.version / full, arrays),
    }
    if (task.version / integers).exists():
        functions["this, int8"] = partial(this, int8=True)
        functions["network alone, int8"] = partial(network, task.version / integers, arrays)
    measures = {name: partial(cost_of, function, task) for name, function in functions.items()}
    return measures | ({"torchvision, DataLoader": partial(cost_of_pytorch, torch, task)} if torch else {})


def print_table(costs: dict[str, list[Cost]], images: int) -> None:
    """Images per second of each contestant, as a multiple of MXNet's and of the limit, and its work per image."""
    speeds = {name: sorted(images / each.seconds for each in found) for name, found in costs.items()}
    median = {name: statistics.median(found) for name, found in speeds.items()}
    limit = 1 / (1 / median["decoding alone"] + 1 / median["network alone"])
    print("| | images/s, median (lowest to highest) | / MXNet | / limit | processor, ms an image |")
    print("|---|---|---|---|---|")
    for name, found in speeds.items():
        ratios = [median[name] / each for each in (median["MXNet, ImageRecordIter"], limit)]
        worked = 1000 * statistics.median(each.worked for each in costs[name]) / images
        range_ = f"{median[name]:.1f} ({found[0]:.1f} to {found[-1]:.1f})"
        print(f"| {name} | {range_} | {ratios[0]:.2f} | {ratios[1]:.2f} | {worked:.1f} |")
    print(f"Limit of decoding and network together: {limit:.1f} images/s.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name")
    parser.add_argument("--torch", type=Path)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    options = parse(parser, arguments, ["data", "models"], repeats=1)
    server = nullcontext() if PREFECT_API_URL.value() else prefect_test_harness(server_startup_timeout=120)
    with working_folder(options, images=4) as folder, server:
        models = publish_tiles(options, folder) if options.quick else options.models
        task = Task(find_champion(models.absolute(), options.name), options.data.absolute(), folder)
        measure = contestants(task, options.torch)
        costs: dict[str, list[Cost]] = {name: [] for name in measure}
        for _ in range(options.repeats):
            for name, once in measure.items():
                costs[name].append(once())
        print(f"{len(task.files):,} images, {describe_conditions(options.repeats)}\n")
        print_table(costs, len(task.files))
        found = differences(task)
        print(f"The file that takes any image: {max(found):.4f} at most, {statistics.mean(found):.5f} on average.")


if __name__ == "__main__":
    run(main)
