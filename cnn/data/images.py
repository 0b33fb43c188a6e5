"""From encoded bytes to what is kept of an image, and to what a network takes: shrinking, cropping, scaling."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.decoding import decode, decoded, is_one_colour, orientation_of, pixel_digest
from cnn.data.similarity import DifferenceHash, difference_hash

#: What the network takes: CROP × CROP px, cut from an image whose shorter side is SHORT_SIDE px.
CROP, SHORT_SIDE = 224, 256
#: Mean and standard deviation of ImageNet's red, green and blue, values 0…1 (notebook, ``color_normalize``).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """What a network takes: the middle ``crop`` × ``crop`` px of an image whose shorter side is ``short_side`` px.

    Values 0…1 are standardised with the ``mean`` and ``std`` of red, green and blue; or, if these are None, each image
    is stretched so that its least value becomes 0 and its greatest 1 (notebook, ``train_transformer``).
    """

    short_side: int = SHORT_SIDE
    crop: int = CROP
    mean: tuple[float, float, float] | None = MEAN
    std: tuple[float, float, float] | None = STD

    @classmethod
    def whole(cls, side: int, stretched: bool = False) -> "Preprocessing":
        """Square images of ``side`` px, of which nothing is cut off."""
        scaling = (None, None) if stretched else (MEAN, STD)
        return cls(short_side=side, crop=side, mean=scaling[0], std=scaling[1])


#: What a network that was pretrained on ImageNet takes.
PHOTO = Preprocessing()

#: Kept images have no shorter side than this: twice what the network's crop needs.
KEPT_SHORT_SIDE = 512
#: Bytes of a kept image beside its pixels, and for each: more are metadata that nobody needs.
_KEPT_METADATA, _KEPT_BYTES_PER_PIXEL = 1 << 18, 8
_LONGEST_COMMENT = 65533  # in a JPEG, by its format

Pixels = NDArray[np.uint8]


def resize_short(image: Image.Image, size: int = SHORT_SIDE) -> Image.Image:
    """Resize, with anti-aliasing, so that the shorter side is ``size`` px.

    >>> resize_short(Image.new("RGB", (512, 1024)), 256).size
    (256, 512)
    """
    ratio = size / min(image.size)
    width, height = (max(size, round(side * ratio)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def center_view(image: Image.Image, preprocessing: Preprocessing = PHOTO) -> Image.Image:
    """The middle of an image, crop × crop px (notebook, ``resize_short`` and ``center_crop``; here in one step)."""
    side = preprocessing.crop * min(image.size) / preprocessing.short_side
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    return image.resize((preprocessing.crop, preprocessing.crop), Image.Resampling.BILINEAR, box)


def scale(pixels: Pixels, preprocessing: Preprocessing = PHOTO) -> NDArray[np.float32]:
    """Scale pixels, (n, 3, height, width), 0…255, to the network's input of the same shape.

    >>> pixels = np.array([10, 11, 12, 14, 16, 18], np.uint8).reshape(1, 3, 1, 2)
    >>> scale(pixels, Preprocessing.whole(2, stretched=True)).ravel().tolist()
    [0.0, 0.125, 0.25, 0.5, 0.75, 1.0]
    """
    tensor = np.empty(pixels.shape, np.float32)
    if preprocessing.mean and preprocessing.std:
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
        for values, image in zip(tensor, pixels, strict=True):  # one at a time stays in the processor's cache
            np.multiply(image, 1 / (255 * std), out=values)
            values -= mean / std
        return tensor
    for values, image in zip(tensor, pixels, strict=True):
        least, greatest = int(image.min()), int(image.max())
        np.divide(image - np.float32(least), max(1, greatest - least), out=values)
    return tensor


def to_tensor(crops: list[Image.Image], preprocessing: Preprocessing = PHOTO) -> NDArray[np.float32]:
    """Stack equally large RGB crops as the network's input, (n, 3, height, width)."""
    return scale(np.stack([np.asarray(crop) for crop in crops]).transpose(0, 3, 1, 2), preprocessing)


class Kept(NamedTuple):
    """What is kept of an image: its id, encoded bytes, its hash, and whether all of its pixels are the same."""

    id: str
    data: bytes
    hash: DifferenceHash
    is_one_colour: bool


def keep(data: bytes) -> Kept:
    """What is kept of an encoded image: upright RGB, shorter side at most 512 px.

    The id is the SHA-256 of the size and the pixels as `decode` gives them, before any shrinking, so that the same
    image in another format has the same id. The bytes stay as they are if they meet this, or else become a JPEG.

    Raises:
        NotAnImageError, MemoryError, OSError: as `decode`.
    """
    with decoded(data) as image:
        image_id, one_colour = pixel_digest(image), is_one_colour(image)
        kept, image = _shrunk(image, data)
        return Kept(image_id, kept, difference_hash(image), one_colour)


def keep_decoded(data: bytes) -> Image.Image:
    """What is kept of an encoded image, decoded: as `decode` gives `keep`'s bytes, in less than half of the time.

    Raises:
        NotAnImageError, MemoryError, OSError: as `decode`.
    """
    with decoded(data) as image:
        kept, _ = _shrunk(image, data)
        if kept is data:
            return image
    return decode(kept)


def _shrunk(image: Image.Image, data: bytes) -> tuple[bytes, Image.Image]:
    """The bytes that are kept of a decoded image, and the image that they were made from; ``data`` if they may stay."""
    if min(image.size) > KEPT_SHORT_SIDE:
        image = resize_short(image, KEPT_SHORT_SIDE)
    elif _is_plain(data):
        return data, image
    kept = io.BytesIO()
    comment = image.info.get("comment", b"")
    comment = (comment.encode() if isinstance(comment, str) else comment)[:_LONGEST_COMMENT]
    image.save(kept, "JPEG", quality=95, subsampling=0, comment=comment)
    return kept.getvalue(), image


def normalise(data: bytes) -> tuple[str, bytes]:
    """Id and encoded bytes of what `keep` keeps of an image; raises what that raises."""
    kept = keep(data)
    return kept.id, kept.data


def _is_plain(data: bytes) -> bool:
    """Whether the bytes are a JPEG or PNG that is upright RGB already, and little more than its pixels."""
    with Image.open(io.BytesIO(data)) as image:
        is_rgb = image.mode == "RGB" and "transparency" not in image.info
        is_small = len(data) <= _KEPT_METADATA + _KEPT_BYTES_PER_PIXEL * image.width * image.height
        return is_rgb and is_small and orientation_of(image) == 1 and image.format in ("JPEG", "PNG")
