"""From bytes to what the network sees: decoding, cropping, normalising."""

import hashlib
import io
import random

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

#: What the network takes: CROP × CROP px, cut from a picture whose shorter side is SHORT_SIDE px.
CROP, SHORT_SIDE = 224, 256
#: Mean and standard deviation of ImageNet's red, green and blue, values 0…1 (notebook, ``color_normalize``).
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

#: A larger picture is refused before it is decoded: decoded it would take 3 bytes per pixel.
MAX_PIXELS = 100_000_000
#: A longer strip is refused: its shorter side enlarged to what the network takes, it would be huge.
MAX_ASPECT = 50
#: Kept pictures have no shorter side than this: twice what the network's crop needs.
KEPT_SHORT_SIDE = 512
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L")

Pixels = NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own, and it is an error and not a warning


class NotAPictureError(ValueError):
    """The bytes are not a picture that can be decoded; the message says why."""


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB; transparency is laid on white, as by the notebook's ``rgba2rgb``."""
    if image.mode in _SIXTEEN_BIT_MODES:
        image = Image.fromarray(np.uint8(np.clip(np.asarray(image, np.float32) / 257 + 0.5, 0, 255)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def decode(data: bytes) -> Image.Image:
    """Decode any picture (JPEG, PNG, WebP …; greyscale, CMYK, palette, alpha, 16 bit) as upright 8-bit RGB.

    Raises:
        NotAPictureError: not a picture, truncated, or of more than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise NotAPictureError(f"{width} × {height} px is more than {MAX_PIXELS // 10**6} megapixels")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise NotAPictureError(f"{width} × {height} px is longer than {MAX_ASPECT} times its shorter side")
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except NotAPictureError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types for damaged data
        reason = "not a picture" if isinstance(error, Image.UnidentifiedImageError) else f"damaged ({error})"
        raise NotAPictureError(reason) from error


def resize_short(image: Image.Image, size: int = SHORT_SIDE) -> Image.Image:
    """Resize, with anti-aliasing, so that the shorter side is ``size`` px.

    >>> resize_short(Image.new("RGB", (512, 1024)), 256).size
    (256, 512)
    """
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def center_view(image: Image.Image) -> Image.Image:
    """The notebook's ``resize_short`` and ``center_crop``: the middle CROP × CROP px."""
    image = resize_short(image)
    left, top = ((side - CROP) // 2 for side in image.size)
    return image.crop((left, top, left + CROP, top + CROP))


def random_view(image: Image.Image, chance: random.Random, smallest: float = 0.3) -> Image.Image:
    """A random part of the picture as CROP × CROP px, mirrored half of the time.

    The part covers ``smallest``…1 of the area at an aspect ratio of 3/4…4/3, as in Szegedy et al. 2014,
    section 6 (with .3 for its .08: what makes the picture a hotdog should stay in it).
    """
    width, height = image.size
    for _ in range(10):
        area = chance.uniform(smallest, 1) * width * height
        aspect = (4 / 3) ** chance.uniform(-1, 1)
        part_width, part_height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < part_width <= width and 0 < part_height <= height:
            break
    else:
        part_width = part_height = min(width, height)
    left, top = chance.randint(0, width - part_width), chance.randint(0, height - part_height)
    box = (left, top, left + part_width, top + part_height)
    view = image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=box)
    return ImageOps.mirror(view) if chance.random() < 0.5 else view


def views(image: Image.Image, count: int, seed: str) -> list[Image.Image]:
    """``count`` views of a picture, at least one: the centre, then random ones that ``seed`` decides."""
    chance = random.Random(seed)
    return [center_view(image), *(random_view(image, chance) for _ in range(count - 1))]


def to_tensor(crops: list[Image.Image]) -> NDArray[np.float32]:
    """Stack equally large RGB crops as the network's input: (n, 3, height, width), normalised per channel."""
    scale, offset = (1 / (255 * STD))[:, None, None], (MEAN / STD)[:, None, None]
    tensor = np.empty((len(crops), 3, crops[0].height, crops[0].width), np.float32)
    for values, crop in zip(tensor, crops, strict=True):  # one picture at a time stays in the processor's cache
        np.multiply(np.asarray(crop).transpose(2, 0, 1), scale, out=values)
        values -= offset
    return tensor


def _is_plain(data: bytes) -> bool:
    """Whether the bytes of a picture are a JPEG or PNG that already is upright RGB."""
    with Image.open(io.BytesIO(data)) as image:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        is_rgb = image.mode == "RGB" and "transparency" not in image.info
        return is_upright and is_rgb and image.format in ("JPEG", "PNG")


def normalise(data: bytes) -> tuple[str, bytes]:
    """What is kept of a picture: its id, and encoded bytes of it as upright RGB, shorter side at most 512 px.

    The id is the SHA-256 of the size and the pixels before any shrinking, so that the same picture in another
    container has the same. The bytes stay as they are if that is enough, or else become a JPEG.

    Raises:
        NotAPictureError: as `decode` does.
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
