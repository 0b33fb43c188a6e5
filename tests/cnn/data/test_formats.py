"""Formats of image files: read, or refused by name."""

import struct

import numpy as np
import pytest
from odd_images import IMAGE, REFUSED, SENSOR, SMOOTH, THUMBNAIL, tiff
from PIL import Image
from writers import encode

from cnn.data.decoding import NotAnImageError, decode
from cnn.data.formats import MAX_SCANS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest shows what the project turns off


def test_avif_is_read() -> None:
    found = np.asarray(decode(encode(IMAGE, "AVIF", quality=100, subsampling="4:4:4")), np.int64)
    assert np.abs(found - SMOOTH).mean() < 2


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_the_first_of_several_images_is_taken(form: str) -> None:
    options = {"quality": 100} if form in ("AVIF", "MPO") else {"lossless": True} if form == "WEBP" else {}
    data = encode(IMAGE, form, save_all=True, append_images=[Image.new("RGB", IMAGE.size)], **options)
    assert np.abs(np.asarray(decode(data), np.int64) - SMOOTH).mean() < 12  # GIF has 256 colours


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
