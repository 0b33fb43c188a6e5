"""Exporting a network as a graph: MXNet's symbol with its parameters, and ONNX."""

from pathlib import Path

import numpy as np

from cnn.support.backend import Network, mx


def export(net: Network, folder: Path, name: str, side: int) -> Path:
    """Write ``NAME-symbol.json``, ``NAME-0000.params`` and ``NAME.onnx``, which takes (n, 3, side, side) for any n.

    Returns:
        The ONNX file. Its parameters are constants of the graph, so that onnxruntime can fold and arrange them.
    """
    import onnx  # slow

    net.hybridize()
    net(mx.nd.zeros((1, 3, side, side), ctx=next(iter(net.collect_params().values())).list_ctx()[0]))
    net.export(str(folder / name))
    path = folder / f"{name}.onnx"
    mx.onnx.export_model(
        str(folder / f"{name}-symbol.json"),
        str(folder / f"{name}-0000.params"),
        [(1, 3, side, side)],
        [np.float32],
        str(path),
        dynamic=True,
        dynamic_input_shapes=[("batch", 3, side, side)],
    )
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    used = {name for node in model.graph.node for name in node.input}
    inputs = [each for each in model.graph.input if each.name not in constants]
    del model.graph.input[:], model.graph.initializer[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    onnx.save(model, path)
    return path
