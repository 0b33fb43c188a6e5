"""Exporting a network as a graph: MXNet's symbol with its parameters, and ONNX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cnn.support.backend import Network, mx


def export_symbol(net: Network, folder: Path, name: str, side: int) -> tuple[Path, Path]:
    """Write a network for images of ``side`` px as ``NAME-symbol.json`` and ``NAME-0000.params``, and return these."""
    net.hybridize()
    net(mx.nd.zeros((1, 3, side, side), ctx=next(iter(net.collect_params().values())).list_ctx()[0]))
    net.export(str(folder / name))
    return folder / f"{name}-symbol.json", folder / f"{name}-0000.params"


def export_onnx(
    net: Network, path: Path, side: int, names: Sequence[str] = (), properties: Mapping[str, str] | None = None
) -> None:
    """Write a network as ONNX, which takes (n, 3, side, side) for any n; outputs are in the order of the network's.

    Its parameters are constants of the graph, so that onnxruntime can fold and arrange them.

    Args:
        names: of the outputs, as many as there are or more; none: MXNet's.
        properties: written into the file's metadata.
    """
    import onnx  # slow

    with TemporaryDirectory() as folder:
        symbol, parameters = map(str, export_symbol(net, Path(folder), "network", side))
        mx.onnx.export_model(
            symbol,
            parameters,
            [(1, 3, side, side)],
            [np.float32],
            str(path),
            dynamic=True,
            dynamic_input_shapes=[("batch", 3, side, side)],
        )
        order = [name.removesuffix("_output") for name in mx.sym.load(symbol).list_outputs()]
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    used = {name for node in model.graph.node for name in node.input}
    inputs = [each for each in model.graph.input if each.name not in constants]
    outputs = sorted(model.graph.output, key=lambda output: order.index(output.name))  # MXNet sorts them by name
    del model.graph.input[:], model.graph.initializer[:], model.graph.output[:]
    model.graph.input.extend(inputs)
    model.graph.output.extend(outputs)
    model.graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    _rename(model.graph, dict(zip(order, names, strict=False)))
    onnx.helper.set_model_props(model, dict(properties or {}))
    onnx.save(model, path)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give values of an ONNX graph other names."""
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
