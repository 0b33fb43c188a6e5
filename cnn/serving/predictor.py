"""The predictor: a published version that answers, by onnxruntime, on any machine."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from PIL import Image

from cnn.data.decoding import MAX_BYTES
from cnn.data.images import center_view, keep_decoded
from cnn.evaluation.answers import Answer
from cnn.networks.sessions import Provider
from cnn.publication.champions import find_champion
from cnn.publication.versions import open_classifier, verified
from cnn.support.files import read_file


class Predictor:
    """A published version that answers.

    Attributes:
        version: its folder, ``artifacts/NAME/v0001``.
        facts: what its manifest says.
        classes: class names, in the order of the probabilities.
    """

    def __init__(self, version: str | Path, provider: Provider = "cpu", int8: bool = False) -> None:
        """Open a version, once its files are known to match its manifest.

        Args:
            provider: what runs the network.
            int8: answer by its network in integers of 8 bits.

        Raises:
            UserError: the folder does not hold a whole version; names the file that was altered. Or this machine lacks
                the provider, or the version that file.
        """
        self.version = Path(version)
        served = verified(self.version)
        self.facts, self._classifier = served.facts, open_classifier(self.version, served, provider, int8)
        self.classes = self._classifier.classes

    @classmethod
    def champion(
        cls, models: str | Path = "artifacts", name: str | None = None, provider: Provider = "cpu", int8: bool = False
    ) -> Self:
        """The champion of the model ``name``; without a name, of the only model there is, or of ``hotdog``.

        Raises:
            UserError: there is none, or its files do not match its manifest.
        """
        return cls(find_champion(Path(models), name), provider, int8)

    def view(self, image: bytes | Image.Image) -> Image.Image:
        """What the network sees of an image: encoded bytes, or an upright RGB image. May run on any thread.

        Raises:
            NotAnImageError: the bytes cannot be decoded.
        """
        opened = image if isinstance(image, Image.Image) else keep_decoded(image)
        return center_view(opened, self._classifier.preprocessing)

    def answer(self, views: Iterable[Image.Image]) -> Iterator[Answer]:
        """The answers to what `view` gave, in that order: an image on each core, a bounded number in flight."""
        return self._classifier.answer(views)

    def predict(self, image: str | Path | bytes | Image.Image) -> Answer:
        """The answer for one image: a file, encoded bytes, or an upright RGB image.

        Raises:
            NotAnImageError: it cannot be decoded.
            OSError: it is no file, too large a one, or cannot be read.
        """
        data = read_file(Path(image), MAX_BYTES) if isinstance(image, str | Path) else image
        (answer,) = self.answer([self.view(data)])
        return answer
