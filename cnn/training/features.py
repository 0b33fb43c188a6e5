"""Features: the frozen part of the network, run once per image and view; their means over positions are kept.

The head is linear and stands before the mean over positions, so that the mean of its outputs is its output for the
mean features: nothing else of an image is needed to solve it. One view takes 2 KB.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnn.data.datasets import Dataset, Row
from cnn.data.images import decode, to_tensor, views
from cnn.networks.architectures import NetworkConfig
from cnn.networks.running import Parameters, Runner, initialise, set_parameters
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.support.files import atomic_file, file_digest
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.progress import progress_bar

#: A shard is written whole or not at all, so a killed run loses at most the work on so many images.
_IMAGES_PER_SHARD = 256


class FeatureStore:
    """The features of images in a folder of Arrow files, found by image id.

    Files are only ever added. Each is named by its own digest; one that was altered is deleted when the store
    is opened, and its images count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        for path in sorted(folder.glob("*.arrow")):
            if file_digest(path) == path.stem:
                self._open(path)
            else:
                path.unlink()

    def _open(self, path: Path) -> None:
        with pa.OSFile(str(path)) as file:
            ids = json.loads(pa.ipc.open_file(file).schema.metadata[b"images"])
        self._places |= {image_id: (path, row) for row, image_id in enumerate(ids)}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def add(self, items: Sequence[tuple[str, NDArray[np.float32]]]) -> None:
        """Write a shard of (image id, features of its views: (views, channels))."""
        values = np.stack([features for _, features in items])
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), int(np.prod(values.shape[1:])))
        facts = {"images": json.dumps([image_id for image_id, _ in items]), "shape": json.dumps(values.shape[1:])}
        batch = pa.record_batch([column], schema=pa.schema([pa.field("features", column.type)], facts))
        unnamed = self.folder / f".{uuid4()}"  # until its digest is known; another run may be adding, too
        with atomic_file(unnamed) as path, pa.OSFile(str(path), "wb") as sink:
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
        self._open(unnamed.rename(self.folder / f"{file_digest(unnamed)}.arrow"))

    def load(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of these images, (n, views, channels)."""
        shards = {path: _read_shard(path) for path in {self._places[image_id][0] for image_id in ids}}
        return np.stack([shards[path][row] for path, row in map(self._places.__getitem__, ids)])


def _read_shard(path: Path) -> NDArray[np.float32]:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    shape = json.loads(table.schema.metadata[b"shape"])
    return table["features"].combine_chunks().values.to_numpy().reshape(-1, *shape)


def _embedding_network(network: NetworkConfig, weights: Parameters, devices: Devices) -> Network:
    """The pretrained features and their mean over positions: (n, 3, side, side) to (n, channels)."""
    net = initialise(network.build(2), network.preprocessing.crop, seed=0, devices=devices)
    set_parameters(net, weights, prefix="features")
    block = mx.gluon.nn.HybridSequential()
    block.add(net.features, mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    return block


def embed(
    dataset: Dataset,
    network: NetworkConfig,
    weights: Parameters,
    folder: Path,
    *,
    views: int,
    seed: int,
    devices: Devices = CPU,
) -> int:
    """Add to ``folder`` the features of those images that are not test images and that it lacks.

    An image has ``views`` views: the centre, and random ones that depend on its content and ``seed`` only, so an
    image that is there already is never embedded again. Returns how many images were embedded.
    """
    store = FeatureStore(folder)
    missing = {image_id for split in learning_splits(dataset) for image_id in dataset.ids_and_labels(split)[0]}
    missing = {image_id for image_id in missing if image_id not in store}
    if missing:
        runner = Runner(_embedding_network(network, weights, devices), network.preprocessing.crop, devices)
        _embed(dataset, missing, store, runner, network, views, seed)
    return len(missing)


def learning_splits(dataset: Dataset) -> tuple[str, ...]:
    """The splits whose images have features: all but test."""
    return tuple(split for split in dataset.splits if split != "test")


def _embed(
    dataset: Dataset,
    missing: Collection[str],
    store: FeatureStore,
    runner: Runner,
    network: NetworkConfig,
    count: int,
    seed: int,
) -> None:
    """Add the features of the images with these ids; decoding and cropping run on all cores beside the network."""
    ids: list[str] = []

    def open_views(row: Row) -> tuple[str, NDArray[np.float32]]:
        shown = views(decode(row.data), count, f"{seed} {row.id}", network.preprocessing)
        return row.id, to_tensor(shown, network.preprocessing)

    def tensors() -> Iterator[NDArray[np.float32]]:
        for image_id, tensor in ordered_map(open_views, _first_rows(dataset, missing)):
            ids.append(image_id)
            yield tensor

    with progress_bar("embedding", len(missing), "image") as advance:
        for number, group in enumerate(in_groups(runner(tensors()), _IMAGES_PER_SHARD)):
            first = number * _IMAGES_PER_SHARD
            store.add(list(zip(ids[first : first + len(group)], group, strict=True)))
            advance(len(group))


def _first_rows(dataset: Dataset, ids: Collection[str]) -> Iterator[Row]:
    """The first row with each of these ids."""
    waiting = set(ids)
    for split in learning_splits(dataset):
        for row in dataset.rows(split):
            if row.id in waiting:
                waiting.remove(row.id)
                yield row
