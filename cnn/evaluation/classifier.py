"""The classifier: which class does an image belong to, and how sure is that?"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.images import PHOTO, Preprocessing, center_view, decode, normalise, to_tensor
from cnn.networks.running import compile_network, run_batches, with_parameters
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.support.files import read_file
from cnn.support.parallel import in_groups
from cnn.training.checkpoints import Checkpoint

#: A larger file, or a longer answer of a server, is not read as an image.
MAX_FILE_BYTES = 1 << 27
#: So many photos are run at once, and more of smaller images; more take memory and no less time.
_PHOTOS_AT_ONCE, _IMAGES_AT_ONCE = 16, 256


def open_image(data: bytes) -> Image.Image:
    """An encoded image as the training data has it: upright RGB, shorter side at most 512 px.

    Raises:
        NotAnImageError: the bytes cannot be decoded.
    """
    return decode(normalise(data)[1])


class Classifier:
    """A network with its class names and preprocessing; ``net`` is on ``devices``."""

    def __init__(
        self, net: Network, classes: Sequence[str], preprocessing: Preprocessing, devices: Devices = CPU
    ) -> None:
        self.net, self.classes = compile_network(net), tuple(classes)
        self.preprocessing, self._devices = preprocessing, devices

    @classmethod
    def of(cls, checkpoint: Checkpoint, devices: Devices = CPU) -> Self:
        """The classifier that a training ended with."""
        net = with_parameters(checkpoint.network, len(checkpoint.classes), checkpoint.parameters, devices)
        return cls(net, checkpoint.classes, checkpoint.network.preprocessing, devices)

    def predict(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Probability of each class, (classes,), for each upright RGB crop (`cnn.data.images.center_view`)."""
        at_once = max(1, min(_IMAGES_AT_ONCE, _PHOTOS_AT_ONCE * PHOTO.crop**2 // self.preprocessing.crop**2))
        batches = (to_tensor(group, self.preprocessing) for group in in_groups(crops, at_once))
        for outputs in run_batches(self.net, batches, at_once, self._devices):
            yield from mx.nd.softmax(mx.nd.array(outputs)).asnumpy()

    def classify(self, image: str | Path | Image.Image) -> dict[str, float]:
        """Probability of each class, by name, for an image file or an upright RGB image.

        Raises:
            NotAnImageError: the file's bytes cannot be decoded.
            OSError: it is no file, too large a one, or cannot be read.
        """
        opened = image if isinstance(image, Image.Image) else open_image(read_file(Path(image), MAX_FILE_BYTES))
        (probabilities,) = self.predict([center_view(opened, self.preprocessing)])
        return dict(zip(self.classes, map(float, probabilities), strict=True))
