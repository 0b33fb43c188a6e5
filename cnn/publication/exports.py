"""Exports: a published network as Gluon parameters, as symbol with parameters, and as ONNX."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnn.networks.explaining import explained
from cnn.networks.exporting import export_onnx, export_symbol
from cnn.networks.running import with_parameters
from cnn.support.backend import mx
from cnn.training.checkpoints import Checkpoint

CLASSES_FILE, NOVELTY_FILE = "classes.json", "novelty.npz"
_LEFT = 1 << 16  # bytes: a disk with less space than this is full


def network_files(architecture: str) -> tuple[str, str, str]:
    """Names of the files from which a network answers: symbol and parameters for any MXNet binding, and ONNX.

    >>> network_files("vgg")
    ('vgg-symbol.json', 'vgg-0000.params', 'vgg.onnx')
    """
    return f"{architecture}-symbol.json", f"{architecture}-0000.params", f"{architecture}.onnx"


def export_network(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a network in three forms, and ``classes.json``, its class names in the order of the outputs.

    ``NAME.params`` are Gluon parameters, ``NAME-symbol.json`` with ``NAME-0000.params`` work in any MXNet binding,
    ``NAME.onnx`` takes batches of any size; NAME is the architecture's. If the head was solved, ``NAME.onnx`` explains
    its answer (`explained`), and ``novelty.npz`` tells what is unlike the images that it was solved from.

    Raises:
        OSError: they cannot be written, such as on a full disk.
    """
    config, classes = checkpoint.network, checkpoint.classes
    name, side = config.architecture, config.preprocessing.crop
    (folder / CLASSES_FILE).write_text(json.dumps(classes, ensure_ascii=False), encoding="utf-8")
    net = with_parameters(config, len(classes), checkpoint.parameters)
    with _noticing_a_full_disk(folder):
        mx.nd.save(
            str(folder / f"{name}.params"), {key: mx.nd.array(each) for key, each in checkpoint.parameters.items()}
        )
        symbol, parameters = export_symbol(net, folder, name, side)
        if checkpoint.novelty:
            checkpoint.novelty.save(folder / NOVELTY_FILE)
            net = explained(config, len(classes), checkpoint.parameters)
        export_onnx(net, folder / f"{name}.onnx", side)
        for file in (folder / f"{name}.params", parameters):
            mx.nd.load(str(file))  # MXNet may write less than the whole and not say so
        json.loads(symbol.read_text(encoding="utf-8"))


@contextmanager
def _noticing_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn whatever MXNet and ONNX raise where the disk is full into the system's own error."""
    try:
        yield
    except (mx.base.MXNetError, ValueError) as error:
        if shutil.disk_usage(folder).free >= _LEFT:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
