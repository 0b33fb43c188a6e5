"""Quantizing: a network in integers of 8 bits, a quarter of the size, and faster on processors."""

import logging
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAYERS = ["Conv", "Gemm", "MatMul"]
#: What is computed in integers; all else, such as the softmax, stays as it is.
_KINDS = [*_LAYERS, "Concat", "MaxPool", "Relu"]


def quantize(network: Path, path: Path, views: Iterable[NDArray[np.float32]]) -> None:
    """Write the ONNX file of a network anew in integers, scaled by what it makes of ``views``, (1, 3, side, side) each.

    Static quantization, per channel (Jacob et al. 2018, https://arxiv.org/abs/1712.05877). Weights have 7 bits: with 8,
    sums overflow on processors without VNNI, which would answer otherwise. The last layer stays as it is: it is small,
    and its errors would be those of the answer.
    """
    import onnx  # slow
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Views(CalibrationDataReader):
        def __init__(self) -> None:
            self._views = iter(views)

        def get_next(self) -> dict[str, Any] | None:
            view = next(self._views, None)
            return None if view is None else {"data": view}

    simpler = _simplified(network)
    last = [node.name for node in simpler.graph.node if node.op_type in _LAYERS][-1]
    logging.disable(logging.WARNING)  # it warns that the network was not simplified
    try:
        quantize_static(
            simpler,
            path,
            Views(),
            nodes_to_exclude=[last],
            op_types_to_quantize=_KINDS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {each.key: each.value for each in onnx.load(network).metadata_props})
    onnx.save(model, path)


def _simplified(network: Path) -> Any:
    """A network whose batch normalisation is folded into its convolutions, and whose nodes all have names."""
    import onnx
    import onnxruntime

    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simplified.onnx")
        onnxruntime.InferenceSession(network, options)  # writes it
        model = onnx.load(options.optimized_model_filepath)
    for number, node in enumerate(model.graph.node):
        node.name = str(number)
    return model
