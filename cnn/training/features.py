"""Features: the frozen part of the network, run once per image and view, kept on disk and read in batches.

One view's features are 512 × 13 × 13 numbers, 346 KB as float32. They are kept averaged to 7 × 7, as float16 and
compressed (most are zeros behind the last ReLU): about 18 KB. `benchmarks/feature_storage.py` measures what this and
other choices cost in F1. The published network runs at 13 × 13 again, and is evaluated so.
"""

import json
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnn.data.datasets import Dataset, Row
from cnn.data.images import CROP, decode, to_tensor, views
from cnn.networks.architectures import squeezenet
from cnn.networks.running import Parameters, compile_network, initialise, run_batches, set_parameters
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.support.files import atomic_file, file_digest
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.progress import progress_bar
from cnn.training.batches import Batch, in_order
from cnn.training.hyperparameters import FeatureStage

#: Shape of one view's features as they are kept: channels, height, width.
FEATURES = (512, 7, 7)
_VALUES = int(np.prod(FEATURES))
_SCHEMA = pa.schema([pa.field("features", pa.list_(pa.float16(), _VALUES))])
#: A shard is written whole or not at all, so a killed run loses at most the work on so many images.
_IMAGES_PER_SHARD = 256
_BATCH = 32
#: 100 KB each as float32, so 200 MB a split: the whole of a small dataset, and a bound for a large one.
_VIEWS_IN_MEMORY = 2048


class FeatureStore:
    """The features of ``views`` views per image in a folder of Arrow files, found by image id.

    Files are only ever added. Each is named by its own digest; one that was altered is deleted when the store
    is opened, and its images count as missing. A record batch holds one view, so that one can be read alone.
    """

    def __init__(self, folder: Path, views: int) -> None:
        self.folder, self.views = folder, views
        self.read = lru_cache(_VIEWS_IN_MEMORY)(self._read)
        self._places: dict[str, tuple[pa.ipc.RecordBatchFileReader, int]] = {}
        for path in sorted(folder.glob("*.arrow")):
            if file_digest(path) == path.stem:
                self._open(path)
            else:
                path.unlink()

    def _open(self, path: Path) -> None:
        shard = pa.ipc.open_file(pa.OSFile(str(path)))  # not memory-mapped: mapped pages count as the process's own
        for number, image_id in enumerate(json.loads(shard.schema.metadata[b"images"])):
            self._places[image_id] = (shard, number * self.views)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def _read(self, image_id: str, view: int) -> NDArray[np.float32]:
        """Features of one view of an image, (512, 7, 7); `read` caches the latest."""
        shard, first = self._places[image_id]
        values = shard.get_batch(first + view).column(0).values
        return values.to_numpy(zero_copy_only=False).reshape(FEATURES).astype(np.float32)

    def add(self, items: list[tuple[str, NDArray[np.float16]]]) -> None:
        """Write a shard of (image id, features of all its views: (views, 512, 7, 7))."""
        ids = json.dumps([image_id for image_id, _ in items])
        schema = _SCHEMA.with_metadata({b"images": ids.encode()})
        unnamed = self.folder / f".{uuid4()}"  # until its digest is known; another run may be adding, too
        with atomic_file(unnamed) as path:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
                for _, features in items:
                    for view in features.reshape(self.views, _VALUES):
                        column = pa.FixedSizeListArray.from_arrays(pa.array(view, pa.float16()), _VALUES)
                        writer.write_batch(pa.record_batch([column], schema=schema))
        self._open(unnamed.rename(self.folder / f"{file_digest(unnamed)}.arrow"))


def feature_stores(folder: Path, views: int) -> dict[str, FeatureStore]:
    """The stores of training and validation features in a folder; validation images have their central view only."""
    return {"train": FeatureStore(folder / "train", views), "validation": FeatureStore(folder / "validation", 1)}


def _embedding_network(weights: Parameters, devices: Devices) -> Network:
    """The pretrained features and the averaging behind them, compiled: (n, 3, 224, 224) to (n, 512, 7, 7)."""
    net = initialise(squeezenet(2), CROP, seed=0, devices=devices)
    set_parameters(net, weights, prefix="features")
    block = mx.gluon.nn.HybridSequential()
    average = mx.gluon.nn.HybridLambda(
        lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=FEATURES[1:])  # noqa: N803
    )
    block.add(net.features, average)
    return compile_network(block)


def embed(
    dataset: Dataset, weights: Parameters, folder: Path, *, views: int, seed: int, devices: Devices = CPU
) -> dict[str, int]:
    """Add to ``folder`` the features of those training and validation images that it lacks.

    A training image has ``views`` views: the centre, and random ones that depend on its content and ``seed`` only, so
    an image that is there already is never embedded again. Returns how many images were embedded of each split.
    """
    missing = {
        split: (store, {image_id for image_id in dataset.ids_and_labels(split)[0] if image_id not in store})
        for split, store in feature_stores(folder, views).items()
    }
    if any(ids for _, ids in missing.values()):
        network = _embedding_network(weights, devices)
        for split, (store, ids) in missing.items():
            _embed_split(dataset, split, ids, store, network, seed, devices)
    return {split: len(ids) for split, (_, ids) in missing.items()}


def _embed_split(
    dataset: Dataset, split: str, ids: set[str], store: FeatureStore, network: Network, seed: int, devices: Devices
) -> None:
    """Add the features of the images with these ids; decoding and cropping run on all cores beside the network."""

    def open_views(row: Row) -> tuple[str, NDArray[np.float32]]:
        return row.id, to_tensor(views(decode(row.data), store.views, f"{seed} {row.id}"))

    per_batch = max(1, _BATCH // store.views)
    opened = ordered_map(open_views, _first_rows(dataset, split, ids), ahead=2 * per_batch)
    in_network: deque[list[str]] = deque()

    def batches() -> Iterator[NDArray[np.float32]]:
        for group in in_groups(opened, per_batch):
            in_network.append([image_id for image_id, _ in group])
            yield np.concatenate([tensor for _, tensor in group])

    def embedded() -> Iterator[tuple[str, NDArray[np.float16]]]:
        for features in run_batches(network, batches(), per_batch * store.views, devices):
            group = in_network.popleft()
            of_each = features.astype(np.float16).reshape(len(group), store.views, *FEATURES)
            advance(len(group))
            yield from zip(group, of_each, strict=True)

    with progress_bar(f"embedding {split}", len(ids), "image") as advance:
        for shard in in_groups(embedded(), _IMAGES_PER_SHARD):
            store.add(shard)


def _first_rows(dataset: Dataset, split: str, ids: set[str]) -> Iterator[Row]:
    """The first row of a split with each of these ids."""
    waiting = set(ids)
    for row in dataset.rows(split):
        if row.id in waiting:
            waiting.remove(row.id)
            yield row


class FeatureBatches:
    """Batches of cached features, (n, 512, 7, 7): each view of each training image once an epoch."""

    def __init__(self, dataset: Dataset, folder: Path, stage: FeatureStage, seed: int) -> None:
        self._stores = feature_stores(folder, stage.views)
        self._images = {split: dataset.ids_and_labels(split) for split in self._stores}
        self._stage, self._seed = stage, seed
        examples = len(self._images["train"][0]) * stage.views
        self._batch_size = min(stage.batch_size, examples)
        self.steps_per_epoch = examples // self._batch_size

    def _load(self, split: str, picks: NDArray[np.int64]) -> Batch:
        """Features and labels of (image, view) pairs, (n, 2) numbers."""
        ids, labels = self._images[split]
        features = np.stack([self._stores[split].read(ids[image], view) for image, view in picks])
        return mx.nd.array(features), labels[picks[:, 0]]

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every view of every training image once, but for a rest that fills no batch."""
        ids, views = self._images["train"][0], self._stage.views
        pairs = np.stack(np.divmod(np.arange(len(ids) * views), views), axis=1)
        pairs = np.random.default_rng([self._seed, epoch]).permutation(pairs)
        whole = pairs[: self.steps_per_epoch * self._batch_size]  # the rest would be a batch of another shape
        picks = np.split(whole, self.steps_per_epoch)
        return ordered_map(lambda batch: self._load("train", batch), picks, ahead=8)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The central view of every image of a split once."""
        for numbers in in_order(len(self._images[split][0]), self._stage.batch_size):
            yield self._load(split, np.stack([numbers, np.zeros_like(numbers)], axis=1))
