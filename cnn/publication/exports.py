"""Exports: a published network as Gluon parameters, as symbol with parameters, and as ONNX."""

import json
from pathlib import Path

import numpy as np

from cnn.networks.running import with_parameters
from cnn.support.backend import mx
from cnn.training.checkpoints import Checkpoint

CLASSES_FILE = "classes.json"


def export_network(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a network in three forms, and ``classes.json``, its class names in the order of the outputs.

    ``NAME.params`` are Gluon parameters, ``NAME-symbol.json`` with ``NAME-0000.params`` work in any MXNet binding,
    ``NAME.onnx`` takes batches of any size; NAME is the architecture's.
    """
    config, classes = checkpoint.network, checkpoint.classes
    name, side = config.architecture, config.preprocessing.crop
    arrays = {key: mx.nd.array(values) for key, values in checkpoint.parameters.items()}
    mx.nd.save(str(folder / f"{name}.params"), arrays)
    (folder / CLASSES_FILE).write_text(json.dumps(classes, ensure_ascii=False), encoding="utf-8")
    net = with_parameters(config, len(classes), checkpoint.parameters)
    net.hybridize()
    net(mx.nd.zeros((1, 3, side, side)))
    net.export(str(folder / name))
    mx.onnx.export_model(
        str(folder / f"{name}-symbol.json"),
        str(folder / f"{name}-0000.params"),
        [(1, 3, side, side)],
        [np.float32],
        str(folder / f"{name}.onnx"),
        dynamic=True,
        dynamic_input_shapes=[("batch", 3, side, side)],
    )
