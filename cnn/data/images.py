"""From encoded bytes to what a network takes: decoding, cropping, scaling."""

import hashlib
import io
import random

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

#: What the network takes: CROP × CROP px, cut from an image whose shorter side is SHORT_SIDE px.
CROP, SHORT_SIDE = 224, 256
#: Mean and standard deviation of ImageNet's red, green and blue, values 0…1 (notebook, ``color_normalize``).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """What a network takes: the middle ``crop`` × ``crop`` px of an image whose shorter side is ``short_side`` px.

    Values 0…1 are standardised with the ``mean`` and ``std`` of red, green and blue; or, if these are None, each image
    is stretched so that its least value becomes 0 and its greatest 1 (notebook, ``train_transformer``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short_side: int = Field(SHORT_SIDE, ge=1)
    crop: int = Field(CROP, ge=1)
    mean: tuple[float, float, float] | None = MEAN
    std: tuple[float, float, float] | None = STD

    @classmethod
    def whole(cls, side: int, stretched: bool = False) -> "Preprocessing":
        """Square images of ``side`` px, of which nothing is cut off."""
        scaling = (None, None) if stretched else (MEAN, STD)
        return cls(short_side=side, crop=side, mean=scaling[0], std=scaling[1])


#: What a network that was pretrained on ImageNet takes.
PHOTO = Preprocessing()

#: A larger image is refused before it is decoded: decoded it would take 3 bytes per pixel.
MAX_PIXELS = 100_000_000
#: Formats that are decoded: not ICO and ICNS, whose size is known only once decoded, nor EPS, which runs a program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
#: A longer strip is refused: with its shorter side enlarged to what the network takes, it would be huge.
MAX_ASPECT = 50
#: Kept images have no shorter side than this: twice what the network's crop needs.
KEPT_SHORT_SIDE = 512
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L")

Pixels = NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own, which is an error and not a warning


class NotAnImageError(ValueError):
    """The bytes are not an image that can be decoded; the message says why."""


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB; transparency is laid on white, as by the notebook's ``rgba2rgb``."""
    if image.mode in _SIXTEEN_BIT_MODES:
        image = Image.fromarray(np.uint8(np.clip(np.asarray(image, np.float32) / 257 + 0.5, 0, 255)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def decode(data: bytes) -> Image.Image:
    """Decode any image (JPEG, PNG, WebP …; greyscale, CMYK, palette, alpha, 16 bit) as upright 8-bit RGB.

    Raises:
        NotAnImageError: not an image, damaged, of more than `MAX_PIXELS`, or too long (`MAX_ASPECT`).
        MemoryError, OSError: the machine, and not the image, is the cause (no memory, too many open files …).
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise NotAnImageError(f"{width} × {height} px is more than {MAX_PIXELS // 10**6} megapixels")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise NotAnImageError(f"{width} × {height} px is longer than {MAX_ASPECT} times its shorter side")
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except (NotAnImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types for damaged data
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Pillow's own have no number
            raise
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else f"damaged ({error})"
        raise NotAnImageError(reason) from error


def resize_short(image: Image.Image, size: int = SHORT_SIDE) -> Image.Image:
    """Resize, with anti-aliasing, so that the shorter side is ``size`` px.

    >>> resize_short(Image.new("RGB", (512, 1024)), 256).size
    (256, 512)
    """
    ratio = size / min(image.size)
    width, height = (max(size, round(side * ratio)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def center_view(image: Image.Image, preprocessing: Preprocessing = PHOTO) -> Image.Image:
    """The middle of an image, crop × crop px (notebook, ``resize_short`` and ``center_crop``)."""
    image = resize_short(image, preprocessing.short_side)
    left, top = ((side - preprocessing.crop) // 2 for side in image.size)
    return image.crop((left, top, left + preprocessing.crop, top + preprocessing.crop))


def random_view(image: Image.Image, rng: random.Random, smallest: float = 0.3) -> Image.Image:
    """A random part of the image as CROP × CROP px, mirrored half of the time.

    The part covers ``smallest``…1 of the area at an aspect ratio of 3/4…4/3, as in Szegedy et al. 2014,
    section 6 (with .3 for its .08: what makes the image a hotdog should stay in it).
    """
    width, height = image.size
    for _ in range(10):
        area = rng.uniform(smallest, 1) * width * height
        aspect = (4 / 3) ** rng.uniform(-1, 1)
        part_width, part_height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < part_width <= width and 0 < part_height <= height:
            break
    else:
        part_width = part_height = min(width, height)
    left, top = rng.randint(0, width - part_width), rng.randint(0, height - part_height)
    box = (left, top, left + part_width, top + part_height)
    view = image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=box)
    return ImageOps.mirror(view) if rng.random() < 0.5 else view


def views(image: Image.Image, count: int, seed: str) -> list[Image.Image]:
    """``count`` views of an image, at least one: the centre, then random ones, which depend on ``seed``."""
    rng = random.Random(seed)
    return [center_view(image), *(random_view(image, rng) for _ in range(count - 1))]


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


def _is_plain(data: bytes) -> bool:
    """Whether the bytes are a JPEG or PNG that is upright RGB already."""
    with Image.open(io.BytesIO(data)) as image:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        is_rgb = image.mode == "RGB" and "transparency" not in image.info
        return is_upright and is_rgb and image.format in ("JPEG", "PNG")


def normalise(data: bytes) -> tuple[str, bytes]:
    """What is kept of an image: its id, and encoded bytes of it as upright RGB, shorter side at most 512 px.

    The id is the SHA-256 of the size and the pixels before any shrinking, so that the same image in another format
    has the same id. The bytes stay as they are if they meet this, or else become a JPEG.

    Raises:
        NotAnImageError, MemoryError, OSError: as `decode`.
    """
    image = decode(data)
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    if min(image.size) > KEPT_SHORT_SIDE:
        image = resize_short(image, KEPT_SHORT_SIDE)
    elif _is_plain(data):
        return digest.hexdigest(), data
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=95, subsampling=0)
    return digest.hexdigest(), kept.getvalue()
