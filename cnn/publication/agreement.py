"""Agreement: whether every file of a version answers as its network does when MXNet runs it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.images import center_view, to_tensor
from cnn.evaluation.answers import Calibration, softmax
from cnn.networks.running import with_parameters
from cnn.networks.sessions import Session
from cnn.publication.records import image_file, network_files
from cnn.support.backend import Network, mx
from cnn.training.checkpoints import Checkpoint

#: A probability of no file differs by more.
_MOST = 0.01


def differences(
    folder: Path, checkpoint: Checkpoint, calibration: Calibration, images: Sequence[Image.Image]
) -> dict[str, float]:
    """By how much the probabilities of each file differ at most from MXNet's, for upright RGB images, by its name.

    Raises:
        ValueError: by more than 0.01, so that the file is not what it should be.
    """
    config, classes = checkpoint.network, len(checkpoint.classes)
    symbol, parameters, onnx = network_files(config.architecture)
    views = to_tensor([center_view(image, config.preprocessing) for image in images], config.preprocessing)

    def by_mxnet(net: Network) -> NDArray[np.float32]:
        return softmax(net(mx.nd.array(views)).asnumpy() / calibration.temperature)

    expected = by_mxnet(with_parameters(config, classes, checkpoint.parameters))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot decide type")  # of the input, which only an image has
        imported = mx.gluon.SymbolBlock.imports(str(folder / symbol), ["data"], str(folder / parameters))
    ready, whole = Session(folder / onnx), Session(folder / image_file(config.architecture))
    found = {
        symbol: by_mxnet(imported),
        onnx: ready.run(views)[0],
        image_file(config.architecture): np.concatenate([whole.run(np.asarray(image))[0] for image in images]),
    }
    largest = {name: float(np.abs(each - expected).max()) for name, each in found.items()}
    for name, difference in largest.items():
        if difference > _MOST:
            raise ValueError(f"{name}: a probability differs from MXNet's by {difference:.3f}")
    return largest
