"""Images as cameras, scanners and editors make them: read upright and right, without a word, or refused as damaged."""

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odd_images import IMAGE, REFUSED, SMOOTH, tiff
from PIL import Image
from writers import encode, flip

from cnn.data import decoding
from cnn.data.decoding import NotAnImageError, decode, is_one_colour
from cnn.data.images import keep, normalise

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest shows what the project turns off


# ---- upright, whatever else the metadata says


def exif(*entries: tuple[int, int, int, bytes], tail: bytes = b"") -> bytes:
    """EXIF of entries (tag, type, count, four bytes), written by hand, since Pillow writes no odd ones."""
    directory = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + tail


TURNED = (274, 3, 1, struct.pack("<I", 6))
ODD_TAGS = {
    "rational resolution unit": exif(TURNED, (296, 5, 1, struct.pack("<I", 38)), tail=struct.pack("<II", 2, 1)),
    "rational maker": exif(TURNED, (271, 5, 1, struct.pack("<I", 38)), tail=struct.pack("<II", 7, 1)),
    "maker beyond the end": exif(TURNED, (271, 2, 999, struct.pack("<I", 9999))),
    "unknown type": exif(TURNED, (271, 99, 1, bytes(4))),
    "float as text": exif(TURNED, (315, 11, 1, struct.pack("<f", 1.5))),
    "exif directory nowhere": exif(TURNED, (34665, 4, 1, struct.pack("<I", 1 << 30))),
    "orientation of a long": exif((274, 4, 1, struct.pack("<I", 6))),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("case", ODD_TAGS)
def test_odd_tags_do_not_lose_the_image(case: str, form: str) -> None:
    expected = np.rot90(SMOOTH, -1)  # Exif 2.3: 6 is to be turned by 90 degrees clockwise
    found = decode(encode(IMAGE, form, exif=ODD_TAGS[case], quality=95))
    assert found.size == (40, 60)
    assert np.abs(np.asarray(found, np.int64) - expected).mean() < 3


@pytest.mark.parametrize("unreadable", [b"Exif\0\0garbage", b"Exif\0\0", exif()])
def test_without_a_readable_orientation_an_image_is_as_stored(unreadable: bytes) -> None:
    data = encode(IMAGE, "JPEG", exif=unreadable)
    assert decode(data).size == IMAGE.size
    assert normalise(data)[1] == data


@pytest.mark.parametrize("odd", [(274, 3, 1, bytes(4)), (274, 2, 2, b"6\0\0\0"), (274, 3, 1, b"\x09\0\0\0")])
def test_an_orientation_that_is_none_changes_nothing(odd: tuple[int, int, int, bytes]) -> None:
    data = encode(IMAGE, "JPEG", exif=exif(odd))
    assert decode(data).size == IMAGE.size
    assert normalise(data)[1] == data


# ---- numbers that are not 8 bits long


def grey(values: NDArray[np.number]) -> NDArray[np.uint8]:
    """The red values of numbers that were written as TIFF and decoded; green and blue are the same."""
    pixels = np.asarray(decode(encode(Image.fromarray(values), "TIFF")))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


RAMP = np.linspace(0, 1, 2400).reshape(40, 60)
EIGHT_BITS = RAMP * 255


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.float32),
        (RAMP * 255).astype(np.float32),
        (RAMP * 4095).astype(np.uint16),
        (RAMP * 65535).astype(np.uint16),
        (RAMP * 65535).astype(np.float32),
        (RAMP * 255).astype(np.int32),
        (RAMP * 65535).astype(np.int32),
        (RAMP * 2_000_000_000).astype(np.int32),
        (RAMP * 3000 - 1000).astype(np.int32),  # Hounsfield units
        (RAMP * 2 - 1).astype(np.float32),
        (RAMP * 3).astype(np.float32),
        (RAMP * 1e30).astype(np.float32),
        (100_000 + RAMP * 500).astype(np.float32),
    ],
    ids=lambda values: f"{values.dtype} {values.min():g}…{values.max():g}",
)
def test_numbers_are_scaled_by_what_they_hold(values: NDArray[np.number]) -> None:
    assert np.abs(grey(values) - EIGHT_BITS).max() <= 1


@pytest.mark.parametrize(("white", "share"), [(1.0, 0.5), (255, 0.5), (4095, 0.1), (65535, 0.1)])
def test_dark_images_stay_dark(white: float, share: float) -> None:
    values = (RAMP * white * share).astype(np.float32)
    assert np.abs(grey(values) - EIGHT_BITS * share).max() <= 1


def test_unsigned_and_signed_tiffs_are_told_apart() -> None:
    values = (RAMP * (2**32 - 1)).astype(np.uint32)
    data, sample_format = encode(Image.fromarray(values.view(np.int32)), "TIFF"), struct.pack("<HHII", 339, 3, 1, 2)
    assert sample_format in data
    unsigned = decode(data.replace(sample_format, struct.pack("<HHII", 339, 3, 1, 1)))
    assert np.abs(np.asarray(unsigned)[..., 0] - EIGHT_BITS).max() <= 1


def test_what_is_no_number_is_black_and_infinity_white() -> None:
    values = RAMP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    found = grey(values)
    assert found[0, :3].tolist() == [0, 255, 0]
    assert np.abs(found[1:] - EIGHT_BITS[1:]).max() <= 1
    assert not grey(np.full((4, 5), np.nan, np.float32)).any()


def test_sixteen_bits_of_other_formats_mean_their_whole_range() -> None:
    dark = (RAMP * 1000).astype(np.uint16)
    for form in ("PNG", "PPM", "JPEG2000"):
        assert np.abs(np.asarray(decode(encode(Image.fromarray(dark), form)))[..., 0] - dark / 257).max() <= 1


def test_floats_of_other_formats_are_scaled_by_what_they_hold() -> None:
    data = b"Pf\n60 40\n-1.0\n" + RAMP[::-1].astype("<f4").tobytes()  # a portable float map, its last row first
    assert np.abs(np.asarray(decode(data))[..., 0] - EIGHT_BITS).max() <= 1


def test_one_colour_is_noticed() -> None:
    plain = Image.new("RGB", (70, 50), (1, 2, 3))
    assert is_one_colour(plain) and keep(encode(plain)).is_one_colour
    assert keep(encode(Image.fromarray(np.full((9, 9), 5, np.int32)), "TIFF")).is_one_colour
    plain.putpixel((69, 49), (1, 2, 4))
    assert not is_one_colour(plain) and not keep(encode(plain)).is_one_colour


def test_large_images_are_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [IMAGE, IMAGE.convert("CMYK"), IMAGE.quantize(9), Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., :1]]))]
    files = [encode(image, "TIFF") for image in [*images, Image.fromarray(RAMP.astype(np.float32))]]
    whole = [normalise(data) for data in files]
    monkeypatch.setattr(decoding, "_PIXELS_AT_A_TIME", 7 * 60)
    assert [normalise(data) for data in files] == whole


# ---- Pillow keeps quiet

NOISY: dict[str, Callable[[], bytes]] = {
    "corrupt EXIF": lambda: encode(IMAGE, "JPEG", exif=ODD_TAGS["maker beyond the end"]),
    "palette with transparencies": lambda: encode(IMAGE.quantize(8), transparency=bytes(range(8))),
    "damaged animation": lambda: encode(IMAGE)[:33] + struct.pack(">I4sIII", 8, b"acTL", 0, 0, 0) + encode(IMAGE)[33:],
    "large": lambda: encode(Image.new("1", (9_999, 9_999))),
    "damaged LZW": lambda: encode(IMAGE, "TIFF", compression="tiff_lzw").replace(b"\x80", b"\x7f"),
    "damaged deflate": lambda: flip(encode(IMAGE, "TIFF", compression="tiff_deflate"), 300),
    "too many samples": lambda: tiff("<", {277: (3, 9)}),
    "not a number": lambda: encode(Image.fromarray(np.full((4, 5), 0x7FA00000, np.uint32).view(np.float32)), "TIFF"),
    "cut-off JPEG in TIFF": lambda: encode(IMAGE, "TIFF", compression="jpeg")[:-300],
    "cut-off JPEG": lambda: encode(IMAGE, "JPEG")[:700],
    "cut-off AVIF": lambda: encode(IMAGE, "AVIF")[:-20],
    "cut-off JPEG 2000": lambda: encode(IMAGE, "JPEG2000")[:-500],
}


def test_nothing_is_printed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from cnn.data.decoding import NotAnImageError
from cnn.data.images import normalise
for path in sys.argv[1:]:
    try:
        normalise(Path(path).read_bytes())
    except NotAnImageError:
        pass
"""
    paths = [tmp_path / str(number) for number in range(len(NOISY))]
    for path, make in zip(paths, NOISY.values(), strict=True):
        path.write_bytes(make())
    command = [sys.executable, "-W", "always", "-c", code, *map(str, paths)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


# ---- damage

SEEDS = {
    "JPEG": encode(IMAGE, "JPEG", exif=ODD_TAGS["rational maker"]),
    "progressive": encode(IMAGE, "JPEG", progressive=True),
    **{form: encode(IMAGE, form) for form in ("PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")},
    "RGBA": encode(IMAGE.convert("RGBA")),
    "LZW": encode(IMAGE, "TIFF", compression="tiff_lzw"),
    "float": encode(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
    "raw": REFUSED["camera raw"],
    "HEIC": REFUSED["HEIC"],
}


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(sorted(SEEDS)), rng=st.randoms(use_true_random=False))
def test_damage_is_refused_or_read(kind: str, rng: random.Random) -> None:
    data = bytearray(SEEDS[kind])
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\1\0"])
            case _:
                del data[place : place + rng.randint(1, 8)]
    try:
        image_id, kept = normalise(bytes(data))
    except NotAnImageError as error:
        assert str(error).isprintable()
    else:
        assert len(image_id) == 64
        assert Image.open(io.BytesIO(kept)).convert("RGB").size == decode(kept).size
