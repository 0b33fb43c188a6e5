"""Features: the frozen part of the network, run once per image; their means over positions are kept.

The head is linear and stands before the mean over positions, so that the mean of its outputs is its output for the
mean features: nothing else of an image is needed to solve it. They take 2 KB.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.images import center_view, to_tensor
from cnn.networks.running import Runner, initialise, set_parameters
from cnn.support import remote
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.support.digests import content_digest
from cnn.support.errors import UserError
from cnn.support.files import atomic_file, file_digest
from cnn.support.objects import TOGETHER
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.progress import track
from cnn.training.checkpoints import Checkpoint

#: A shard is written whole or not at all, so a killed run loses at most the work on so many images.
_IMAGES_PER_SHARD = 512

_ADVICE = "run the same command again, which embeds these images again."

#: Which images of a dataset: split → the numbers of their rows.
Rows = dict[str, list[int]]


class FeatureStore:
    """The features of images in a folder of Arrow files, found by image id.

    Files are only ever added. Each is named by its own digest; one that was altered is deleted when the store
    is opened, and its images count as missing. Where the folder has an address, files of other machines are there, too:
    which images they hold is read by range, and the features once they are needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        shards = {path for path in folder.glob("*.arrow") if _is_intact(path)}
        if remote.address_of(folder):
            there = {folder / name for name in remote.children(folder) if name.endswith(".arrow")}
            for path in shards - there:  # a process was killed before it had shared it
                remote.share(path)
            shards |= there
        for path, ids in zip(sorted(shards), ordered_map(_image_ids, sorted(shards), threads=TOGETHER), strict=True):
            self._places |= {image_id: (path, row) for row, image_id in enumerate(ids)}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def load(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of these images, (n, channels).

        Raises:
            UserError: some are missing, or are deleted now, as they were altered; the embedding makes them anew.
        """
        if lost := sum(image_id not in self for image_id in ids):
            raise UserError(f"{self.folder}: the features of {lost} images are missing; {_ADVICE}")
        wanted = defaultdict[Path, list[tuple[int, int]]](list)
        for place, image_id in enumerate(ids):
            path, row = self._places[image_id]
            wanted[path].append((place, row))
        found = np.empty((len(ids), 0), np.float32)
        for path, shard in zip(wanted, ordered_map(_read_shard, wanted, threads=TOGETHER), strict=True):
            found = found if found.shape[1] else np.empty((len(ids), shard.shape[1]), np.float32)
            places, rows = map(list, zip(*wanted[path], strict=True))
            found[places] = shard[rows]
        return found


def write_shard(folder: Path, items: Sequence[tuple[str, NDArray[np.float32]]]) -> Path:
    """Add the file of (image id, features: (channels,)) to the folder of a `FeatureStore`; others may do so, too."""
    values = np.stack([features for _, features in items])
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    facts = {"images": json.dumps([image_id for image_id, _ in items])}
    batch = pa.record_batch([column], schema=pa.schema([pa.field("features", column.type)], facts))
    unnamed = folder / f".{uuid4()}"  # until its digest is known
    with atomic_file(unnamed) as path, pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    shard = unnamed.rename(folder / f"{file_digest(unnamed)}.arrow")
    remote.share(shard)
    return shard


def _is_intact(path: Path) -> bool:
    """Whether a shard has its digest; if not, it is deleted."""
    intact = content_digest(path) == path.stem
    if not intact:
        path.unlink()
    return intact


def _image_ids(path: Path) -> list[str]:
    """Which images a shard holds; read by range where it is not here."""
    with remote.open_file(path) as file:
        return json.loads(pa.ipc.open_file(file).schema.metadata[b"images"])


def _read_shard(path: Path) -> NDArray[np.float32]:
    if not (path.exists() or remote.has(path, path.stem)):
        remote.remove(path)
        raise UserError(f"{path}: it was altered and is deleted; {_ADVICE}")
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    column = table["features"].combine_chunks()
    return column.values.to_numpy().reshape(-1, column.type.list_size)


def learning_splits(dataset: Dataset, keep_validation: bool) -> tuple[str, ...]:
    """The splits that a head is solved from: train, and validation unless it is the only part to stay untouched."""
    return ("train",) if keep_validation or "test" not in dataset.splits else ("train", "validation")


class Embedder:
    """The frozen part of a network, ready to run: once for many shards, since making it takes seconds."""

    def __init__(self, start: Checkpoint, devices: Devices = CPU) -> None:
        self._preprocessing = start.network.preprocessing
        self._runner = Runner(embedding_network(start, devices), self._preprocessing.crop, devices)

    def __call__(self, rows: Iterable[Row]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The id of each image with the features, (channels,), of its middle."""
        ids = deque[str]()  # of those that are in the network

        def tensors() -> Iterator[NDArray[np.float32]]:
            for image_id, tensor in ordered_map(self._open, rows):
                ids.append(image_id)
                yield tensor

        return ((ids.popleft(), features) for (features,) in self._runner(tensors()))

    def _open(self, row: Row) -> tuple[str, NDArray[np.float32]]:
        return row.id, to_tensor([center_view(decode(row.data), self._preprocessing)], self._preprocessing)


def missing(dataset: Dataset, folder: Path, splits: Sequence[str]) -> list[Rows]:
    """The images of some splits whose features ``folder`` lacks, in shards; of the same image several times, one."""
    known, places = FeatureStore(folder), dict[str, tuple[str, int]]()
    for split in splits:
        for number, image_id in enumerate(dataset.ids_and_labels(split)[0]):
            if image_id not in known:
                places.setdefault(image_id, (split, number))
    shards = in_groups(places.values(), _IMAGES_PER_SHARD)
    return [{split: [number for each, number in shard if each == split] for split in splits} for shard in shards]


def embed_shards(dataset: Dataset, shards: Sequence[Rows], embedder: Embedder, folder: Path) -> list[Path]:
    """Add the features of some shards to ``folder``, and return the file of each."""
    images = [(split, numbers) for shard in shards for split, numbers in shard.items()]
    rows = (row for split, numbers in images for row in dataset.rows_at(split, numbers))
    count = sum(len(numbers) for _, numbers in images)
    features = track(embedder(rows), "embedding", count, "image")
    return [write_shard(folder, group) for group in in_groups(features, _IMAGES_PER_SHARD)]


def embed(
    dataset: Dataset,
    start: Checkpoint,
    folder: Path,
    *,
    splits: Sequence[str],
    devices: Devices = CPU,
) -> int:
    """Add to ``folder`` the features that the network ``start`` has of those images of some splits that it lacks.

    They are of the middle of each image. An image that is there already is never embedded again. Returns how many
    images were embedded.
    """
    shards = missing(dataset, folder, splits)
    if shards:
        embed_shards(dataset, shards, Embedder(start, devices), folder)
    return sum(len(numbers) for shard in shards for numbers in shard.values())


def embedding_network(start: Checkpoint, devices: Devices = CPU) -> Network:
    """The pretrained features and their mean over positions: (n, 3, side, side) to (n, channels)."""
    net = initialise(start.network.build(2), start.network.preprocessing.crop, seed=0, devices=devices)
    set_parameters(net, start.parameters, prefix="features")
    block = mx.gluon.nn.HybridSequential()
    block.add(net.features, mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    return block
