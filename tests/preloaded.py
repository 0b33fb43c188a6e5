"""What the processes of disturbed flows are forked with, so that they spend their seconds on what can be disturbed.

All that a flow imports is imported, the code that decides cache keys is read, figures are of one pixel, and there is a
small network ``lenet``.
"""

import importlib
from typing import Any

from step_calls import STEPS, make_call
from without_figures import leave_out_figures

from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.support.backend import mx

_IMPORTED_BY_RUNS = (
    "fastapi", "flows.cifar", "flows.hotdog", "flows.score", "matplotlib.backends.backend_agg", "matplotlib.figure",
    "onnx", "onnxruntime", "pyarrow.parquet", "scipy.optimize", "scipy.stats", "skimage.transform",
    "sklearn.linear_model", "sklearn.metrics",
)  # fmt: skip


def lenet(classes: int) -> Any:
    """A small network, for images of 6 px and more."""
    nn, net = mx.gluon.nn, mx.gluon.nn.HybridSequential()
    net.add(nn.Conv2D(6, 5, activation="relu"), nn.MaxPool2D(2), nn.Dense(classes))
    return net


leave_out_figures(setattr)
mx.nd  # noqa: B018  (imports MXNet)
ARCHITECTURES["lenet"] = Architecture(lenet, smallest_side=6)
for name in _IMPORTED_BY_RUNS:
    importlib.import_module(name)
for step in STEPS:
    make_call(step).key()
