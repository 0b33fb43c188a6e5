"""A trained network that answers: which class does a picture belong to, and how sure is that?"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.architectures import ARCHITECTURES
from cnn.backend import Device, Network, mx
from cnn.errors import UserError
from cnn.hyperparameters import Design
from cnn.networks import MirroredMean, Parameters, compile_network, initialise, run_batches, set_parameters
from cnn.parallel import in_groups
from cnn.pictures import PHOTO, Input, to_tensor

#: So many photos are run at once, and more of smaller pictures; more take memory and no less time.
_PHOTOS_AT_ONCE, _PICTURES_AT_ONCE = 16, 256
CLASSES_FILE, MANIFEST_FILE, CHAMPION_FILE = "classes.json", "manifest.json", "champion.json"


class Classifier:
    """A network with its class names and what it takes; ``net`` is on ``devices``."""

    def __init__(self, net: Network, classes: Sequence[str], given: Input, devices: Sequence[Device]) -> None:
        self.net, self.classes, self.input, self._devices = compile_network(net), tuple(classes), given, devices

    @classmethod
    def build(
        cls, design: Design, values: Parameters, classes: Sequence[str], devices: Sequence[Device]
    ) -> "Classifier":
        """A network of this design with these parameters."""
        net = initialise(ARCHITECTURES[design.architecture](len(classes)), design.input.crop, devices, seed=0)
        set_parameters(net, values)
        return cls(MirroredMean(net) if design.mirrored_mean else net, classes, design.input, devices)

    @classmethod
    def load(cls, version: Path, devices: Sequence[Device]) -> "Classifier":
        """Load a published model version from its symbol: the code of its architecture may have changed since.

        Raises:
            UserError: the folder does not hold a whole one.
        """
        try:
            classes = json.loads((version / CLASSES_FILE).read_text())
            given = Input(**json.loads((version / MANIFEST_FILE).read_text())["input"])
            symbol = next(version.glob("*-symbol.json"))
            parameters = symbol.with_name(symbol.name.replace("-symbol.json", "-0000.params"))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Cannot decide type")  # of the input, which only a picture tells
                net = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(parameters), ctx=list(devices))
        except (OSError, ValueError, KeyError, StopIteration, AssertionError, mx.base.MXNetError) as error:
            raise UserError(f"{version}: is not a whole model version ({error}); publish one again.") from error
        return cls(net, classes, given, devices)

    def answers(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Probability of each class, (classes,), for each upright RGB crop (`cnn.pictures.center_view`)."""
        at_once = max(1, min(_PICTURES_AT_ONCE, _PHOTOS_AT_ONCE * PHOTO.crop**2 // self.input.crop**2))
        batches = (to_tensor(group, self.input) for group in in_groups(crops, at_once))
        for outputs in run_batches(self.net, batches, self._devices, at_once):
            yield from mx.nd.softmax(mx.nd.array(outputs)).asnumpy()
