"""Collection: corrected images, kept in a folder that a training can read."""

import threading
from pathlib import Path

from cnn.data.decoding import decode
from cnn.data.images import normalise
from cnn.support.errors import UserError
from cnn.support.files import atomic_file, require_writable

#: A folder that holds more takes no more corrections: their images, and their bytes.
MAX_IMAGES, MAX_BYTES = 10_000, 1 << 30
_KEPT = f"*/{'[0-9a-f]' * 64}.jpg"  # not what else a data set holds


class CollectionFull(Exception):
    """The folder holds as much as it may."""


class Collection:
    """A folder with a folder for each class, in which corrected images are kept."""

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        """Keep corrections in ``folder``, which is made if need be.

        Raises:
            UserError: it cannot be written to, or a class cannot be the name of a folder.
        """
        if wrong := [label for label in classes if not is_folder_name(label)]:
            raise UserError(f"class {wrong[0]!r}: it cannot be the name of a folder, so nothing can be collected.")
        require_writable(folder, "collect")
        self._folder, self._lock = folder, threading.Lock()

    def keep(self, image: bytes, label: str, classes: tuple[str, ...]) -> str:
        """Keep an encoded image as ``FOLDER/LABEL/ID.jpg``; under another label, it is there no longer.

        Only pixels are kept (upright RGB, shorter side at most 512 px): no place, no time, no name. Returns the id, the
        SHA-256 of the size and the pixels that were sent.

        Raises:
            ValueError: the label is not one of ``classes``.
            NotAnImageError: the bytes cannot be decoded.
            CollectionFull: nothing more is kept.
            OSError: the file cannot be written.
        """
        if label not in classes or not is_folder_name(label):
            raise ValueError(f"label {label}: expected one of {', '.join(classes)}")
        image_id, kept = normalise(image)
        pixels = decode(kept)
        with self._lock:
            self._require_room()
            with atomic_file(self._folder / label / f"{image_id}.jpg") as temporary:
                pixels.save(temporary, "JPEG", quality=95, subsampling=0, comment=b"")
            for other in set(classes) - {label}:
                (self._folder / other / f"{image_id}.jpg").unlink(missing_ok=True)
        return image_id

    def _require_room(self) -> None:
        sizes = [file.stat().st_size for file in self._folder.glob(_KEPT)]
        if len(sizes) >= MAX_IMAGES or sum(sizes) >= MAX_BYTES:
            raise CollectionFull(f"{len(sizes):,} images were collected and no more are kept")


def is_folder_name(label: str) -> bool:
    """Whether a class can be the name of a folder.

    >>> is_folder_name("hot_dog"), is_folder_name("../hot_dog"), is_folder_name(".")
    (True, False, False)
    """
    return bool(label) and not label.startswith(".") and "/" not in label and "\0" not in label
