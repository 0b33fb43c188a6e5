import errno
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile
from writers import encode, noise, png

from cnn.data.decoding import NotAnImageError, decode
from cnn.data.images import (
    CROP,
    KEPT_SHORT_SIDE,
    PHOTO,
    Preprocessing,
    center_view,
    keep_decoded,
    normalise,
    scale,
    to_tensor,
)

Pixels = NDArray[np.uint8]

# a smooth image, so that JPEG changes little
Y, X = np.mgrid[0:48, 0:64]
SMOOTH = np.stack([X * 4, Y * 5, 255 - X * 2 - Y], axis=2).astype(np.uint8)
GREY = SMOOTH[..., 0]
ALPHA = np.where(X < 32, 255, 0).astype(np.uint8)


# ---- every kind of image


def palette(transparency: int | None) -> bytes:
    image = Image.fromarray((X // 16).astype(np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 200, 0, 0, 0, 200, 0])
    return encode(image) if transparency is None else encode(image, transparency=transparency)


PALETTE = np.array([[10, 20, 30], [40, 50, 60], [200, 0, 0], [0, 200, 0]])
ON_WHITE = np.where(ALPHA[..., None] == 255, SMOOTH, 255)
GREY_ON_WHITE = np.repeat(np.where(ALPHA == 255, GREY, 255)[..., None], 3, axis=2)
BLACKENED = np.where(ALPHA[..., None] == 255, SMOOTH, 0).astype(np.uint8)
CMYK = np.concatenate([255 - SMOOTH, np.zeros_like(SMOOTH[..., :1])], axis=2)
SIXTEEN_BIT = (GREY.astype(np.uint16) * 257).astype("<u2")

MODES = {
    "RGB": (encode(Image.fromarray(SMOOTH)), SMOOTH),
    "RGB JPEG": (encode(Image.fromarray(SMOOTH), "JPEG", quality=100, subsampling=0), SMOOTH),
    "RGB WebP": (encode(Image.fromarray(SMOOTH), "WEBP", lossless=True), SMOOTH),
    "L": (encode(Image.fromarray(GREY)), np.repeat(GREY[..., None], 3, axis=2)),
    "LA": (encode(Image.fromarray(np.dstack([GREY, ALPHA]))), GREY_ON_WHITE),
    "RGBA": (encode(Image.fromarray(np.dstack([SMOOTH, ALPHA]))), ON_WHITE),
    "P": (palette(None), PALETTE[X // 16]),
    "P with transparency": (palette(2), np.where((X // 16 == 2)[..., None], 255, PALETTE[X // 16])),
    "RGB with transparent black": (encode(Image.fromarray(BLACKENED), transparency=(0, 0, 0)), ON_WHITE),
    "CMYK": (encode(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100), SMOOTH),
    "16 bit": (encode(Image.fromarray(SIXTEEN_BIT)), np.repeat(GREY[..., None], 3, axis=2)),
    "1 bit": (encode(Image.fromarray(X >= 32)), np.repeat((X >= 32)[..., None], 3, axis=2) * 255),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    data, expected = MODES[mode]
    kept = normalise(data)[1]
    for image in (decode(data), Image.open(io.BytesIO(kept))):
        assert image.mode == "RGB"
        assert image.size == (64, 48)
        difference = np.abs(np.asarray(image, np.int64) - expected)
        # JPEG rings at the sharp edges of what had to be encoded anew
        assert difference.mean() < 2, mode
    assert (kept == data) == (mode in ("RGB", "RGB JPEG"))


# Exif 2.3, tag 0x0112: how the stored image is to be turned
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0})])
def test_images_are_turned_upright(orientation: int, form: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(SMOOTH), form, **options, exif=exif)
    expected = UPRIGHT[orientation](SMOOTH)
    kept = normalise(data)[1]
    assert np.abs(np.asarray(decode(data), np.int64) - expected).mean() < 1
    stored = np.asarray(Image.open(io.BytesIO(kept)), np.int64)  # without regard to any EXIF
    assert np.abs(stored - expected).mean() < 2
    assert (kept == data) == (orientation == 1)


def test_large_images_are_shrunk() -> None:
    large = Image.fromarray(SMOOTH).resize((1600, 1200))
    image_id, kept = normalise(encode(large))
    assert Image.open(io.BytesIO(kept)).size == (683, KEPT_SHORT_SIDE)
    assert image_id == normalise(encode(large, "BMP"))[0]
    assert image_id != normalise(kept)[0]


def test_images_of_the_kept_size_are_kept() -> None:
    just_right, too_large = (encode(Image.new("RGB", (600, KEPT_SHORT_SIDE + more))) for more in (0, 1))
    assert normalise(just_right)[1] == just_right
    assert min(Image.open(io.BytesIO(normalise(too_large)[1])).size) == KEPT_SHORT_SIDE


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("side", [9, KEPT_SHORT_SIDE, KEPT_SHORT_SIDE + 1])
def test_kept_image_is_decoded_at_once(form: str, side: int) -> None:
    data = encode(Image.fromarray(noise(0)).resize((side, side + 7)), form)
    assert keep_decoded(data) == decode(normalise(data)[1])


def test_id_depends_on_size_and_pixels() -> None:
    assert normalise(png(1))[0] == normalise(encode(Image.fromarray(noise(1)), "TIFF"))[0]
    assert normalise(png(1))[0] != normalise(png(2))[0]
    black = [normalise(encode(Image.new("RGB", size)))[0] for size in ((4, 6), (6, 4))]
    assert black[0] != black[1]


# ---- what is refused, and what is not the image's fault


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


UNUSABLE = {
    "text": (b"this is a text", "not an image"),
    "empty": (b"", "not an image"),
    "ICO, decoded before it is checked": (encode(Image.fromarray(SMOOTH), "ICO"), "not an image"),
    "EPS, decoded by another program": (encode(Image.fromarray(SMOOTH), "EPS"), "not an image"),
    "cut off": (encode(Image.fromarray(SMOOTH), "JPEG")[:600], "damaged"),
    "bomb": (bomb(50_000, 50_000), "megapixels"),
    "too large": (bomb(11_000, 10_000), "megapixels"),
    "too long": (encode(Image.new("L", (70_000, 1))), "70000 × 1 px"),
    "strip": (encode(Image.new("L", (10, 600))), "50 times"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_refusal_says_why(case: str) -> None:
    data, reason = UNUSABLE[case]
    with pytest.raises(NotAnImageError, match=reason):
        normalise(data)


SYSTEM_ERRORS = [MemoryError(), *(OSError(code, "") for code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO))]


@pytest.mark.parametrize("error", SYSTEM_ERRORS, ids=repr)
@pytest.mark.parametrize("function", [(Image, "open"), (ImageFile.ImageFile, "load")])
def test_system_errors_are_not_damage(
    error: Exception, function: tuple[object, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*function, fail)
    for read in (decode, normalise):
        with pytest.raises(type(error)) as raised:
            read(png(1))
        assert raised.value is error


def test_pillows_own_oserror_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("broken data stream when reading image file")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(NotAnImageError, match=r"damaged .broken data stream"):
        decode(png(1))


# ---- what the network sees

# mean and standard deviation of ImageNet's red, green and blue, as published with its pretrained networks
RED_GREEN_BLUE = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


def test_network_sees_standardised_rgb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 300, 3), np.uint8)  # nothing to resize
    mean, std = RED_GREEN_BLUE
    expected = (pixels[:, 16:240, 38:262] / 255 - mean) / std
    tensor = to_tensor([center_view(decode(encode(Image.fromarray(each)))) for each in pixels])
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, np.moveaxis(expected, 3, 1), atol=1e-5)


@pytest.mark.parametrize("size", [(600, 400), (400, 600), (30, 40), (224, 224)])
def test_center_view_keeps_the_middle(size: tuple[int, int]) -> None:
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([255 * (x + 0.5) / width, 255 * (y + 0.5) / height, np.full(x.shape, 40)], axis=2).astype(np.uint8)
    view = np.asarray(center_view(Image.fromarray(image)), np.float64)
    assert view.shape == (CROP, CROP, 3)
    # of the shorter side 224/256 are seen, and as many pixels of the longer one
    shares = [CROP / 256 * min(size) / side for side in size]
    offsets = (np.arange(CROP) + 0.5) / CROP - 0.5
    for channel, (share, line) in enumerate(zip(shares, (view[CROP // 2], view[:, CROP // 2]), strict=True)):
        assert np.abs(line[:, channel] - 255 * (0.5 + share * offsets)).max() < 3
    assert np.abs(view[..., 2] - 40).max() <= 1


def test_preprocessing_without_mean_stretches() -> None:
    pixels = np.random.default_rng(0).integers(30, 200, (3, 3, 5, 5), np.uint8)
    stretched = scale(pixels, Preprocessing.whole(5, stretched=True))
    flat = pixels.reshape(3, -1).astype(np.float64)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    np.testing.assert_allclose(stretched.reshape(3, -1), (flat - low) / (high - low), atol=1e-6)
    assert not scale(np.full((1, 3, 2, 2), 7, np.uint8), Preprocessing.whole(2, stretched=True)).any()


def test_whole_preprocessing_cuts_nothing_off() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    assert center_view(image, Preprocessing.whole(32)) == image
    assert Preprocessing.whole(32).mean == PHOTO.mean
