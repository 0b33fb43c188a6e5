"""Images as cameras, phones, scanners and attackers make them: read right, or refused by name, in bounded memory."""

import io
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from writers import encode, flip

from cnn.data import decoding
from cnn.data.decoding import MAX_JPEG_PIXELS, MAX_PIXELS, NotAnImageError, decode, decoded, is_one_colour
from cnn.data.formats import MAX_SCANS
from cnn.data.images import keep, normalise

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest shows what the project turns off

Y, X = np.mgrid[0:40, 0:60]
SMOOTH = np.stack([X * 4, Y * 6, 255 - X * 2 - Y], axis=2).astype(np.uint8)
IMAGE = Image.fromarray(SMOOTH)


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
def test_an_orientation_that_is_none_is_not_kept(odd: tuple[int, int, int, bytes]) -> None:
    data = encode(IMAGE, "JPEG", exif=exif(odd))
    kept = Image.open(io.BytesIO(normalise(data)[1]))
    assert decode(data).size == IMAGE.size == kept.size
    assert 0x0112 not in kept.getexif()


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


# ---- formats


def test_avif_is_read() -> None:
    found = np.asarray(decode(encode(IMAGE, "AVIF", quality=100, subsampling="4:4:4")), np.int64)
    assert np.abs(found - SMOOTH).mean() < 2


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_the_first_of_several_images_is_taken(form: str) -> None:
    options = {"quality": 100} if form in ("AVIF", "MPO") else {"lossless": True} if form == "WEBP" else {}
    data = encode(IMAGE, form, save_all=True, append_images=[Image.new("RGB", IMAGE.size)], **options)
    assert np.abs(np.asarray(decode(data), np.int64) - SMOOTH).mean() < 12  # GIF has 256 colours


def boxed(*brands: bytes) -> bytes:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(box) + 4) + box + bytes(100)


def tiff(order: str, first: dict[int, tuple[int, int]], inner: dict[int, tuple[int, int]] | None = None) -> bytes:
    """A TIFF of an upright thumbnail that Pillow reads, with more tags (tag → type, value), and an inner directory."""
    mark = b"II" if order == "<" else b"MM"
    thumbnail = {
        256: (4, 8),
        257: (4, 8),
        258: (3, 8),
        259: (3, 1),
        262: (3, 1),
        273: (4, 8),
        277: (3, 1),
        279: (4, 64),
    }
    tags = {**thumbnail, **first}
    end = 72 + 2 + 12 * (len(tags) + (inner is not None)) + 4
    if inner is not None:
        tags[330] = (4, end)

    def directory(entries: dict[int, tuple[int, int]]) -> bytes:
        out = struct.pack(f"{order}H", len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
            out += struct.pack(f"{order}HHI", tag, kind, 1) + packed
        return out + bytes(4)

    header = mark + struct.pack(f"{order}HI", 42, 72) + bytes(range(64))
    return header + directory(tags) + (directory(inner) if inner is not None else b"")


THUMBNAIL, SENSOR = {254: (4, 1)}, {254: (4, 0), 262: (3, 32803)}
REFUSED = {
    "HEIC": boxed(b"heic", b"mif1", b"heic"),
    "HEIC of a burst": boxed(b"msf1", b"hevc"),
    "HEIC by a later brand": boxed(b"xxxx", b"miaf", b"heix"),
    "JPEG XL": b"\xff\x0a\xfa\x7f" + bytes(50),
    "JPEG XL in boxes": bytes.fromhex("0000000c4a584c200d0a870a") + bytes(50),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "CR3": boxed(b"crx ", b"isom"),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(50),
    "ORF": b"IIRO\x08\0\0\0" + bytes(50),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(50),
    "DNG": tiff("<", {**THUMBNAIL, 50706: (4, 0x401)}, SENSOR),
    "camera raw": tiff("<", THUMBNAIL, SENSOR),
    "camera raw of big-endian": tiff(">", THUMBNAIL, SENSOR),
    "camera raw whose sensor data come first": tiff("<", SENSOR),
    "camera raw of linear data": tiff("<", THUMBNAIL, {262: (3, 34892)}),
    "TIFF that begins with a thumbnail": tiff("<", THUMBNAIL),
    "TIFF that begins with a thumbnail of something inside": tiff(">", THUMBNAIL, {262: (3, 1)}),
    "PSD": b"8BPS\0\1" + bytes(50),
    "PDF": b"%PDF-1.4\n" + bytes(50),
}


@pytest.mark.parametrize("case", REFUSED)
def test_known_kinds_are_refused_by_name(case: str) -> None:
    kind = case.split(" of ")[0].split(" by ")[0].split(" in ")[0].split(" whose")[0]
    with pytest.raises(NotAnImageError, match=rf"{kind}\)?, which is not read; convert it to JPEG"):
        decode(REFUSED[case])


def test_lab_is_refused_by_name() -> None:
    with pytest.raises(NotAnImageError, match="Lab, which is not read; convert it"):
        decode(encode(Image.new("LAB", (9, 9)), "TIFF"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_tiffs_of_the_same_build_are_read(order: str) -> None:
    for data in (tiff(order, {}), tiff(order, {254: (4, 0)}, {**THUMBNAIL, 262: (3, 1)}), tiff(order, {254: (4, 2)})):
        assert np.asarray(decode(data))[..., 0].ravel().tolist() == list(range(64))


def test_makers_name_their_raw() -> None:
    data = tiff("<", {**THUMBNAIL, 271: (2, 0)}, SENSOR)
    place = struct.pack("<HHII", 271, 2, 1, 0)
    assert place in data
    data = data.replace(place, struct.pack("<HHII", 271, 2, 18, len(data))) + b"NIKON CORPORATION\0"
    with pytest.raises(NotAnImageError, match=r"camera raw \(NEF\)"):
        decode(data)


# ---- large


def draw(width: int, height: int, form: str, **options: object) -> bytes:
    return encode(IMAGE.resize((width, height)), form, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(12001, 9001), (16320, 12240)])
def test_photos_of_phones_are_decoded_at_half_their_size(width: int, height: int) -> None:
    image_id, kept = normalise(draw(width, height, "JPEG", quality=60))
    shown = Image.open(io.BytesIO(kept))
    assert shown.size == (683, 512)
    expected = np.asarray(IMAGE.resize(shown.size), np.int64)
    assert np.abs(np.asarray(shown, np.int64) - expected).mean() < 4
    half = Image.open(io.BytesIO(draw(width, height, "JPEG", quality=60)))
    half.draft(None, (width // 2, height // 2))
    assert half.size == ((width + 1) // 2, (height + 1) // 2)
    assert image_id == decoding.pixel_digest(half)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_only_jpegs_beyond_the_limit_are_decoded_smaller(
    mode: str, progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(SMOOTH[:39]).convert(mode)
    data = encode(image, "JPEG", progressive=progressive, quality=95)
    for limit, size in ((60 * 39, (60, 39)), (60 * 39 - 1, (30, 20))):
        monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
        found = decode(data)
        assert found.size == size
        expected = np.asarray(image.convert("RGB").resize(size), np.int64)
        assert np.abs(np.asarray(found, np.int64) - expected).mean() < 4
    with pytest.raises(NotAnImageError, match="megapixels"):
        decode(encode(Image.fromarray(SMOOTH[:39]), "PNG"))


def claim(width: int, height: int, data: bytes) -> bytes:
    """A JPEG that claims to be so large."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def test_bombs_are_refused() -> None:
    small = encode(IMAGE, "JPEG")
    side = int(MAX_JPEG_PIXELS**0.5) + 1
    with pytest.raises(NotAnImageError, match=r"more than 250 megapixels"):
        decode(claim(side, side, small))
    with pytest.raises(NotAnImageError, match=r"more than 100 megapixels"):
        decode(b"P5 10001 10000 255\n" + bytes(100))
    with pytest.raises(NotAnImageError, match=r"damaged"):
        decode(b"P5 10000 10000 255\n" + bytes(100))
    assert MAX_PIXELS == 100_000_000


def with_scans(count: int) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    data = encode(IMAGE, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


def test_jpegs_of_hundreds_of_scans_are_refused() -> None:
    with pytest.raises(NotAnImageError, match="more than 100 scans"):
        decode(with_scans(MAX_SCANS + 1))
    assert with_scans(MAX_SCANS).count(b"\xff\xda") == MAX_SCANS
    assert decode(with_scans(MAX_SCANS)).size == IMAGE.size


def test_scans_in_metadata_do_not_count() -> None:
    data = encode(IMAGE, "JPEG", comment=b"\xff\xda" * 1000)
    assert decode(data).size == IMAGE.size
    assert decode(encode(IMAGE, "JPEG") + bytes(9) + b"\xff\xda\0\2" * 1000).size == IMAGE.size


@pytest.mark.parametrize("kind", ["text", "packed text", "profile"])
def test_megabytes_of_metadata_are_read_and_not_kept(kind: str) -> None:
    text = random.Random(0).randbytes(3_000_000).hex()
    info = PngImagePlugin.PngInfo()
    if kind == "profile":
        data = encode(IMAGE, icc_profile=text.encode())
    else:
        info.add_text("Description", text, zip=kind == "packed text")
        data = encode(IMAGE, pnginfo=info)
    image_id, kept = normalise(data)
    assert len(data) > 2_000_000 and len(kept) < 50_000
    assert image_id == normalise(encode(IMAGE))[0]


def test_text_that_unpacks_without_end_is_refused() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    data, bomb = encode(IMAGE), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    with pytest.raises(NotAnImageError, match="damaged"):
        decode(data[:33] + bomb + data[33:])


def test_comments_that_no_jpeg_holds_are_cut_off() -> None:
    kept = normalise(encode(IMAGE, "GIF", comment=b"x" * 100_000))[1]
    assert Image.open(io.BytesIO(kept)).info["comment"] == b"x" * 65_533


# ---- memory


@pytest.mark.parametrize(("total", "expected"), [(9 * 40 * 60, 1), (1, 1), (2 * 9 * 40 * 60, 2)])
def test_images_wait_for_memory(total: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_budget", decoding._Budget(total))
    data, together, barrier = encode(IMAGE), [], threading.Barrier(2)
    inside = threading.Semaphore(0)

    def hold() -> None:
        with decoded(data):
            inside.release()
            with suppress(threading.BrokenBarrierError):
                barrier.wait(timeout=0.5)  # both reach it only if both may be here
                together.append(1)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(hold) for _ in range(2)]:
            future.result(timeout=20)
    assert max(1, len(together)) == expected
    assert inside.acquire(timeout=0) and inside.acquire(timeout=0)  # each had its turn


def test_coefficients_count_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)  # so that it is decoded at half its size
    needed = {mode: decoding._open(encode(IMAGE, "JPEG", progressive=mode))[1] for mode in (False, True)}
    assert needed[False] >= 30 * 20 * 4
    assert needed[True] >= needed[False] + 60 * 40 * 3 * 2  # two bytes of each of three components


def test_a_failure_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_budget", decoding._Budget(9 * IMAGE.width * IMAGE.height))
    for _ in range(3):
        with pytest.raises(NotAnImageError):
            decode(encode(IMAGE)[:-200])
        with pytest.raises(ZeroDivisionError), decoded(encode(IMAGE)):
            raise ZeroDivisionError
    assert decode(encode(IMAGE)).size == IMAGE.size


PEAK = """
import resource, sys, threading
from pathlib import Path
from cnn.data import decoding
from cnn.data.images import normalise
decoding._budget = decoding._Budget(1)
data = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
threads = [threading.Thread(target=normalise, args=(data,)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_peak_memory_of_three_large_images_is_that_of_one(tmp_path: Path) -> None:
    path, (width, height) = tmp_path / "large.png", (6_000, 4_000)
    IMAGE.convert("RGBA").resize((width, height)).save(path, compress_level=1)
    command = [sys.executable, "-c", PEAK, str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 12 * width * height


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
from cnn.data.images import NotAnImageError, normalise
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
