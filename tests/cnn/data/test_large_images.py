"""Images of many pixels, much metadata or a claim to either: read in bounded memory, or refused."""

import io
import random
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from odd_images import IMAGE, SMOOTH
from PIL import Image, PngImagePlugin
from writers import encode

from cnn.data import decoding
from cnn.data.decoding import MAX_JPEG_PIXELS, MAX_PIXELS, NotAnImageError, decode, decoded
from cnn.data.images import normalise

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest shows what the project turns off


def draw(width: int, height: int, form: str, **options: object) -> bytes:
    return encode(IMAGE.resize((width, height)), form, **options)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(12001, 9001, marks=pytest.mark.slow, id="108 million pixels"),
        pytest.param(16320, 12240, marks=pytest.mark.long, id="200 million pixels"),
    ],
)
def test_photos_of_phones_are_decoded_at_half_their_size(width: int, height: int) -> None:
    data = draw(width, height, "JPEG", quality=60)
    image_id, kept = normalise(data)
    shown = Image.open(io.BytesIO(kept))
    assert shown.size == (683, 512)
    expected = np.asarray(IMAGE.resize(shown.size), np.int64)
    assert np.abs(np.asarray(shown, np.int64) - expected).mean() < 4
    half = Image.open(io.BytesIO(data))
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
