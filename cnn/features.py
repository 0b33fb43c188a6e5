"""The frozen part of the network, run once per picture and view and kept on disk.

One view's features are 512 × 13 × 13 numbers, 346 KB as float32. They are kept averaged to 7 × 7, as float16 and
compressed (most are zeros behind the last ReLU): about 18 KB. `benchmarks/feature_storage.py` shows what this and
other choices cost in F1. The published network runs at 13 × 13 again, and is evaluated so.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnn.backend import Device, Network, mx
from cnn.datasets import Dataset, Row
from cnn.files import atomic_file, file_digest
from cnn.networks import Parameters, compile_network, initialise, run_batches, set_parameters
from cnn.parallel import in_groups, ordered_map
from cnn.pictures import CROP, decode, to_tensor, views
from cnn.progress import progress_bar
from cnn.squeezenet import squeezenet

#: Shape of one view's features as they are kept: channels, height, width.
FEATURES = (512, 7, 7)
_VALUES = int(np.prod(FEATURES))
_SCHEMA = pa.schema([pa.field("features", pa.list_(pa.float16(), _VALUES))])
#: A shard is written whole or not at all, so a killed run loses at most the work on so many pictures.
_PICTURES_PER_SHARD = 256
_BATCH = 32
#: 100 KB each as float32, so 200 MB a split: the whole of a small dataset, and a bound for a large one.
_VIEWS_IN_MEMORY = 2048

Features = NDArray[np.float16]


class FeatureStore:
    """The features of ``views`` views per picture in a folder of Arrow files, found by picture id.

    Files are only ever added. Each is named by its own digest; one that was altered is deleted when the store
    is opened, and its pictures count as missing. A record batch holds one view, so that one can be read alone.
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
        for number, picture in enumerate(json.loads(shard.schema.metadata[b"pictures"])):
            self._places[picture] = (shard, number * self.views)

    def __contains__(self, picture: str) -> bool:
        return picture in self._places

    def _read(self, picture: str, view: int) -> NDArray[np.float32]:
        """Features of one view of a picture, (512, 7, 7); `read` remembers what was read last."""
        shard, first = self._places[picture]
        values = shard.get_batch(first + view).column(0).values
        return values.to_numpy(zero_copy_only=False).reshape(FEATURES).astype(np.float32)

    def add(self, items: list[tuple[str, Features]]) -> None:
        """Write a shard of (picture id, features of all its views: (views, 512, 13, 13))."""
        names = json.dumps([picture for picture, _ in items])
        schema = _SCHEMA.with_metadata({b"pictures": names.encode()})
        unnamed = self.folder / f".{uuid4()}"  # until its digest is known; another run may be adding, too
        with atomic_file(unnamed) as path:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
                for _, features in items:
                    for view in features.reshape(self.views, _VALUES):
                        column = pa.FixedSizeListArray.from_arrays(pa.array(view, pa.float16()), _VALUES)
                        writer.write_batch(pa.record_batch([column], schema=schema))
        self._open(unnamed.rename(self.folder / f"{file_digest(unnamed)}.arrow"))


def embedding_network(weights: Parameters, devices: Sequence[Device]) -> Network:
    """The pretrained features and the averaging behind them, compiled: (n, 3, 224, 224) to (n, 512, 7, 7)."""
    net = initialise(squeezenet(2), CROP, devices, seed=0)
    set_parameters(net, weights, prefix="features")
    block = mx.gluon.nn.HybridSequential()
    average = mx.gluon.nn.HybridLambda(
        lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=FEATURES[1:])  # noqa: N803
    )
    block.add(net.features, average)
    return compile_network(block)


def embed_split(
    dataset: Dataset, split: str, store: FeatureStore, network: Network, devices: Sequence[Device], seed: int
) -> int:
    """Add to ``store`` the features of those pictures of a split that it lacks; returns how many those were.

    Decoding and cropping run on all cores beside the network. The views of a picture depend on its content and
    ``seed`` only, so pictures that are there already never need to be embedded again.
    """
    missing = {picture for picture in dataset.ids_and_labels(split)[0] if picture not in store}

    def first_of_each(waiting: set[str]) -> Iterator[Row]:
        for row in dataset.rows(split):
            if row.id in waiting:
                waiting.remove(row.id)
                yield row

    def open_views(row: Row) -> tuple[str, NDArray[np.float32]]:
        return row.id, to_tensor(views(decode(row.data), store.views, f"{seed} {row.id}"))

    per_batch = max(1, _BATCH // store.views)
    pictures = ordered_map(open_views, first_of_each(set(missing)), ahead=2 * per_batch)
    in_network: deque[list[str]] = deque()

    def batches() -> Iterator[NDArray[np.float32]]:
        for group in in_groups(pictures, per_batch):
            in_network.append([picture for picture, _ in group])
            yield np.concatenate([tensor for _, tensor in group])

    shard: list[tuple[str, Features]] = []
    with progress_bar(f"embedding {split}", len(missing), "picture") as advance:
        for features in run_batches(network, batches(), devices, per_batch * store.views):
            ids = in_network.popleft()
            of_each = features.astype(np.float16).reshape(len(ids), store.views, *FEATURES)
            shard += zip(ids, of_each, strict=True)
            if len(shard) >= _PICTURES_PER_SHARD:
                store.add(shard)
                shard = []
            advance(len(ids))
    if shard:
        store.add(shard)
    return len(missing)
