"""Sessions: networks as ONNX files, run by onnxruntime. Needs neither MXNet nor anything else that trains."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cnn.data.images import PHOTO
from cnn.support.errors import UserError
from cnn.support.parallel import in_groups, ordered_map

#: What runs a network: the cores, or an NVIDIA GPU, with the package onnxruntime-gpu.
Provider = Literal["cpu", "cuda"]
_NAMES: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
#: So many photos are run at once on a GPU, and more of smaller images; more take memory and no less time.
PHOTOS_ON_GPU, _MOST_IMAGES = 16, 256

#: Name of the first output of a network that answers.
PROBABILITIES = "probabilities"

Arrays = tuple[NDArray[np.float32], ...]


def require_provider(provider: str) -> None:
    """Refuse a provider that this machine lacks.

    Raises:
        UserError: says what to install.

    >>> require_provider("cpu")
    """
    if provider not in _NAMES:
        raise UserError(f"provider {provider!r}: expected one of {', '.join(get_args(Provider))}.")
    import onnxruntime  # slow

    if _NAMES[provider] not in onnxruntime.get_available_providers():
        raise UserError(
            f"provider {provider}: the onnxruntime that is installed cannot use it; install onnxruntime-gpu in its "
            "place, or choose cpu."
        )


class Session:
    """A network that runs: on the CPU an image on each core, on a GPU in batches.

    Attributes:
        names: of its outputs, in their order.
    """

    def __init__(self, path: Path, provider: Provider = "cpu") -> None:
        """Load an ONNX file whose one input is (n, 3, side, side), for any n.

        Raises:
            UserError: the provider is not there or cannot be used.
        """
        import onnxruntime  # slow

        require_provider(provider)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # each core has an image of its own
        session = onnxruntime.InferenceSession(path, options, providers=[_NAMES[provider]])
        if provider != "cpu" and session.get_providers()[0] != _NAMES[provider]:  # onnxruntime only logs why
            raise UserError(f"provider {provider}: the GPU or its libraries cannot be used; choose cpu.")
        self._session, self._input = session, session.get_inputs()[0]
        self._at_once = 1 if provider == "cpu" else PHOTOS_ON_GPU
        self.names = tuple(output.name for output in session.get_outputs())

    def run(self, images: NDArray[Any]) -> Arrays:
        """The outputs, (n, ...) each, for what the file takes, such as images (n, 3, side, side)."""
        return tuple(self._session.run(None, {self._input.name: images}))

    def all_outputs(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[Arrays]:
        """The outputs, (k, ...) each, for each of the inputs (k, 3, side, side), which all have the same k."""
        counts: deque[int] = deque()
        together = at_once(self._at_once, self._input.shape[-1])
        for outputs in ordered_map(self.run, joined(inputs, together, counts)):
            yield from separated(outputs, counts.popleft())


def at_once(photos: int, side: int) -> int:
    """How many images of ``side`` px have as many pixels as so many photos; one at least.

    >>> at_once(16, 224), at_once(1, 32), at_once(1, 448)
    (16, 49, 1)
    """
    return max(1, min(_MOST_IMAGES, photos * PHOTO.crop**2 // side**2))


def joined(inputs: Iterable[NDArray[np.float32]], size: int, counts: "deque[int]") -> Iterator[NDArray[np.float32]]:
    """Up to ``size`` inputs as one batch; how many it holds is appended to ``counts``."""
    for group in in_groups(inputs, size):
        counts.append(len(group))
        yield np.concatenate(group)


def separated(outputs: Arrays, count: int) -> Iterator[Arrays]:
    """The outputs for each of ``count`` inputs that were run as one batch."""
    return zip(*(np.split(each, count) for each in outputs), strict=True)
