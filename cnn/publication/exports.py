"""Exports: a published network as Gluon parameters, as symbol with parameters, and as ONNX."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cnn.evaluation.answers import Calibration
from cnn.networks.answering import OUTPUTS, answering
from cnn.networks.exporting import export_onnx, export_symbol
from cnn.networks.image_graphs import add_preprocessing
from cnn.networks.running import with_parameters
from cnn.publication.records import CLASSES_FILE, NOVELTY_FILE, image_file
from cnn.support.backend import mx
from cnn.training.checkpoints import Checkpoint

_LEFT = 1 << 16  # bytes: a disk with less space than this is full


def export_network(checkpoint: Checkpoint, folder: Path, calibration: Calibration) -> None:
    """Write a network in four forms, and ``classes.json``, its class names in the order of the outputs.

    ``NAME.params`` are Gluon parameters, ``NAME-symbol.json`` with ``NAME-0000.params`` work in any MXNet binding; both
    give logits. ``NAME.onnx`` takes batches of any size and gives calibrated probabilities and more (`answering`), and
    ``NAME-image.onnx`` the same for one image of any size; their metadata hold what else is needed. NAME is the
    architecture's. If the head was solved, ``novelty.npz`` tells what is unlike the images that it was solved from.

    Raises:
        OSError: they cannot be written, such as on a full disk.
    """
    config, classes, values = checkpoint.network, checkpoint.classes, checkpoint.parameters
    name, side = config.architecture, config.preprocessing.crop
    (folder / CLASSES_FILE).write_text(json.dumps(classes, ensure_ascii=False), encoding="utf-8")
    with _noticing_a_full_disk(folder):
        mx.nd.save(str(folder / f"{name}.params"), {key: mx.nd.array(each) for key, each in values.items()})
        symbol, parameters = export_symbol(with_parameters(config, len(classes), values), folder, name, side)
        net = answering(
            config, len(classes), values, temperature=calibration.temperature, explains=checkpoint.novelty is not None
        )
        export_onnx(net, folder / f"{name}.onnx", side, OUTPUTS, _properties(checkpoint, calibration))
        add_preprocessing(folder / f"{name}.onnx", folder / image_file(name), config.preprocessing)
        if checkpoint.novelty:
            checkpoint.novelty.save(folder / NOVELTY_FILE)
        for file in (folder / f"{name}.params", parameters):
            mx.nd.load(str(file))  # MXNet may write less than the whole and not say so
        json.loads(symbol.read_text(encoding="utf-8"))


def _properties(checkpoint: Checkpoint, calibration: Calibration) -> dict[str, str]:
    """What the metadata of an ONNX file say, each as JSON."""
    known = {
        "classes": checkpoint.classes,
        "calibration": asdict(calibration),
        "preprocessing": asdict(checkpoint.network.preprocessing),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in known.items()}


@contextmanager
def _noticing_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn whatever MXNet and ONNX raise where the disk is full into the system's own error."""
    try:
        yield
    except (mx.base.MXNetError, ValueError) as error:
        if shutil.disk_usage(folder).free >= _LEFT:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
