"""Encoded bytes of any kind of image as upright 8-bit RGB, in bounded memory."""

import ctypes
import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from cnn.data.formats import MAX_SCANS, has_too_many_scans, refused_kind
from cnn.support.text import printable

#: More than this many bytes of one image file are never read; a longer image is cut off, and so found damaged.
MAX_BYTES = 1 << 27
#: A larger image is refused before it is decoded, which takes 4 bytes per pixel or more.
MAX_PIXELS = 100_000_000
#: A JPEG of more than `MAX_PIXELS` is decoded at half its width and height; a still larger one is refused. Phones make
#: up to 200 megapixels.
MAX_JPEG_PIXELS = 250_000_000
#: A longer strip is refused: with its shorter side enlarged to what the network takes, it would be huge.
MAX_ASPECT = 50
#: Formats that are decoded: not ICO and ICNS, whose size is known only once decoded, nor EPS, which runs a program.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Modes of one number per pixel that is not 8 bits long.
_NUMBERS = ("I", "I;16", "I;16B", "I;16L", "F")
#: What is white in an image of such numbers: the least of these that no value exceeds (mask, 8, 12 and 16 bits).
_WHITES = (1, 255, 4095, 65535)
#: Values that fill less of that range than this are stretched.
_LEAST_FILLED = 1 / 16
_SAMPLE_FORMAT, _UNSIGNED = 339, 1  # TIFF 6.0, section 19

#: All decoders together take no more than this, or than one image needs.
_MEMORY = 1_500_000_000
#: Bytes per pixel that decoding takes at its peak, measured; of other formats `_USUAL_BYTES`.
_BYTES = {"WEBP": 20, "JPEG2000": 20, "AVIF": 12}
_USUAL_BYTES = 9
_COEFFICIENT_BYTES = 6  # per pixel of a progressive JPEG, which is kept whole until its last scan
_PIXELS_AT_A_TIME = 1 << 20
_MOST_PNG_TEXT = 1 << 26  # bytes, once unpacked, of one text or colour profile and of all together


def _silence_libtiff() -> None:
    """Keep the library that Pillow reads TIFF with from writing to stderr what it thinks of a file."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    for library in {line.split(maxsplit=5)[5] for line in lines if "/libtiff" in line}:
        for kind in ("Error", "Warning"):
            getattr(ctypes.CDLL(library), f"TIFFSet{kind}Handler")(None)


# `decode` has limits of its own, which are errors; what Pillow has to say about the rest is of no use to anybody
_silence_libtiff()
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MOST_PNG_TEXT
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class NotAnImageError(ValueError):
    """The bytes are not an image that can be decoded; the message says why."""


class _Budget:
    """Bytes that several threads share: `reserved` waits until so many are free."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        size = min(size, self._total)  # what needs more than all is alone
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


_budget = _Budget(_MEMORY)


def decode(data: bytes) -> Image.Image:
    """Decode any image (JPEG, PNG, WebP …; greyscale, CMYK, palette, alpha, 16 bit) as upright 8-bit RGB.

    A JPEG of more than `MAX_PIXELS` is half as wide and high as it is stored. Numbers of more than 8 bits are scaled by
    what they hold: see `_range`.

    Raises:
        NotAnImageError: not an image, of a kind that is not read, damaged, too large, or too long (`MAX_ASPECT`).
        MemoryError, OSError: the machine, and not the image, is the cause (no memory, too many open files …).
    """
    with decoded(data) as image:
        return image


@contextmanager
def decoded(data: bytes) -> Iterator[Image.Image]:
    """`decode` for as long as the block lasts, in which the image counts against the memory that all may take."""
    with _as_not_an_image():
        image, bytes_needed = _open(data)
    with _budget.reserved(bytes_needed):
        with _as_not_an_image():
            image.load()
            orientation = orientation_of(image)
            image = _to_rgb(image)
            if orientation in _TURNS:
                image = image.transpose(_TURNS[orientation])
        yield image


@contextmanager
def _as_not_an_image() -> Iterator[None]:
    """Turn what Pillow raises for damaged data, a dozen types, into a `NotAnImageError`."""
    try:
        yield
    except (NotAnImageError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Pillow's own have no number
            raise
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else f"damaged ({error})"
        raise NotAnImageError(printable(" ".join(reason.split()))) from error


def _open(data: bytes) -> tuple[Image.Image, int]:
    """An image that is not decoded yet, of a kind and size that may be, and the bytes that decoding it will take."""
    if kind := refused_kind(data):
        raise NotAnImageError(f"{kind}, which is not read; convert it to JPEG")
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    (width, height), is_jpeg = image.size, image.format in ("JPEG", "MPO")
    limit = MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS
    if width * height > limit:
        raise NotAnImageError(f"{width} × {height} px is more than {limit // 10**6} megapixels")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise NotAnImageError(f"{width} × {height} px is longer than {MAX_ASPECT} times its shorter side")
    if is_jpeg and has_too_many_scans(data):
        raise NotAnImageError(f"a JPEG of more than {MAX_SCANS} scans")
    if width * height > MAX_PIXELS:
        image.draft(None, (width // 2, height // 2))
    coefficients = width * height * _COEFFICIENT_BYTES if "progressive" in image.info else 0
    return image, image.width * image.height * _BYTES.get(image.format or "", _USUAL_BYTES) + coefficients


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in parts of its full width, from top to bottom, each with its first row: copies of few pixels."""
    height = max(1, _PIXELS_AT_A_TIME // image.width)
    for top in range(0, image.height, height):
        yield top, image.crop((0, top, image.width, min(top + height, image.height)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB; transparency is laid on white, as by the notebook's ``rgba2rgb``."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "LAB":
        raise NotAnImageError("colours in Lab, which is not read; convert it to JPEG")
    black, white = _range(image) if image.mode in _NUMBERS else (0, 255)
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        if image.mode in _NUMBERS:
            strip = _to_eight_bits(_numbers(image, strip), black, white)
        if strip.mode in ("RGBA", "LA", "PA") or "transparency" in strip.info:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        strip = strip.convert("RGB")
        rgb.paste(strip, (0, top))
        rgb.info = strip.info
    return rgb


def _numbers(image: Image.Image, strip: Image.Image) -> NDArray[np.number]:
    """The values of a strip of the image; Pillow takes TIFF's unsigned 32 bits for signed ones."""
    values = np.asarray(strip)
    is_unsigned = image.format == "TIFF" and _UNSIGNED in getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (_UNSIGNED,))
    return values.view(np.uint32) if image.mode == "I" and is_unsigned else values


def _range(image: Image.Image) -> tuple[float, float]:
    """Which numbers are black and white in an image of numbers that are not 8 bits long.

    16 bits mean 0…65535, except in TIFF and in floating point, which say nothing about their range: there black is 0
    and white the least of 1, 255, 4095 and 65535 that no value exceeds. If values are negative or greater, or if they
    fill less than a sixteenth of that range, black is the least value and white the greatest.
    """
    if image.mode != "F" and image.format != "TIFF":
        return 0, 65535
    least, greatest = np.inf, -np.inf
    for _, strip in _strips(image):
        values = _numbers(image, strip)
        finite = values[np.isfinite(values)]
        if finite.size:
            least, greatest = min(least, float(finite.min())), max(greatest, float(finite.max()))
    white = next((white for white in _WHITES if white >= greatest), np.inf)
    if least >= 0 and greatest >= white * _LEAST_FILLED:
        return 0, white
    return least, greatest


def _to_eight_bits(values: NDArray[np.number], black: float, white: float) -> Image.Image:
    """Numbers as grey, NaN as black."""
    if not black < white:  # one value, or none that is finite
        black, white = 0, np.inf
    with np.errstate(invalid="ignore"):
        scaled = (values.astype(np.float64) - black) / ((white - black) / 255) + 0.5
    return Image.fromarray(np.uint8(np.clip(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0), 0, 255)))


def orientation_of(image: Image.Image) -> object:
    """The one EXIF tag that says how an image is to be turned, whatever the others hold; 1, upright, if there is none.

    An image whose EXIF cannot be read is taken as it is stored, as viewers do.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # as of `decode`
        return 1


def pixel_digest(image: Image.Image) -> str:
    """SHA-256, in hex, of an image's size and pixels.

    >>> pixel_digest(Image.new("RGB", (2, 3))) == pixel_digest(Image.new("RGB", (3, 2)))
    False
    """
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    for _, strip in _strips(image):
        digest.update(strip.tobytes())
    return digest.hexdigest()


def is_one_colour(image: Image.Image) -> bool:
    """Whether all pixels are the same, so that the image shows nothing.

    >>> is_one_colour(Image.new("RGB", (2, 2), "red")), is_one_colour(Image.radial_gradient("L"))
    (True, False)
    """
    return image.getcolors(maxcolors=1) is not None
