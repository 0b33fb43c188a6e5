"""A trained network that answers: which class does a picture belong to, and how sure is that?"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.backend import Device, mx
from cnn.errors import UserError
from cnn.networks import Parameters, compile_network, parameters, run_batches, set_parameters, squeezenet
from cnn.parallel import in_groups
from cnn.pictures import to_tensor

_BATCH = 16
PARAMETERS_FILE, CLASSES_FILE = "squeezenet1_1.params", "classes.json"


class Classifier:
    """SqueezeNet 1.1 with its class names."""

    def __init__(self, values: Parameters, classes: Sequence[str], devices: Sequence[Device]) -> None:
        self.classes, self._devices = tuple(classes), devices
        self.net = squeezenet(len(classes), devices, seed=0)
        set_parameters(self.net, values)
        compile_network(self.net)

    @classmethod
    def load(cls, version: Path, devices: Sequence[Device]) -> "Classifier":
        """Load a published model version.

        Raises:
            UserError: the folder does not hold a whole one.
        """
        try:
            classes = json.loads((version / CLASSES_FILE).read_text())
            net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=len(classes))
            net.load_parameters(str(version / PARAMETERS_FILE))
        except (OSError, ValueError, AssertionError, mx.base.MXNetError) as error:
            raise UserError(f"{version}: is not a whole model version ({error}); publish one again.") from error
        return cls(parameters(net), classes, devices)

    def answers(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Probability of each class, (classes,), for each upright RGB crop of 224 × 224 px (`center_view`)."""
        batches = map(to_tensor, in_groups(crops, _BATCH))
        for outputs in run_batches(self.net, batches, self._devices, _BATCH):
            yield from mx.nd.softmax(mx.nd.array(outputs)).asnumpy()
