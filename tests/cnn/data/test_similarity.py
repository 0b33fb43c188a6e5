"""Images that are nearly the same, against all pairs one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from writers import encode

from cnn.data.decoding import decode
from cnn.data.sample import CLASSES, draw
from cnn.data.similarity import MAX_BITS, MAX_BRIGHTNESS, DifferenceHash, Item, difference_hash, near_siblings


def drawn(index: int) -> Image.Image:
    return Image.fromarray(draw(CLASSES[index % 2], 0, index))


def distance(one: DifferenceHash, other: DifferenceHash) -> int:
    return (int.from_bytes(one.bits) ^ int.from_bytes(other.bits)).bit_count()


COPIES = {
    "poor": lambda image: encode(image, "JPEG", quality=40),
    "half": lambda image: encode(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=85),
    "other format": lambda image: encode(image, "WEBP", lossless=True),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("index", range(6))
def test_copies_are_near(copy: str, index: int) -> None:
    original, other = difference_hash(drawn(index)), difference_hash(decode(COPIES[copy](drawn(index))))
    assert distance(original, other) <= MAX_BITS
    assert abs(original.brightness - other.brightness) <= MAX_BRIGHTNESS


def test_other_images_are_far() -> None:
    hashes = [difference_hash(drawn(index)) for index in range(30)]
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > MAX_BITS


NEAR = st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12), st.sampled_from("abc"), st.integers(0, 40))


@settings(max_examples=60, deadline=None)
@given(drafts=st.lists(NEAR, max_size=40))
def test_pairs_are_those_of_all_pairs(drafts: list[tuple[int, int, int, str, int]]) -> None:
    bases = np.random.default_rng(0).integers(0, 2, (4, 256), np.uint8)
    items = []
    for base, flipped, brightness, label, image_id in drafts:
        bits = bases[base].copy()
        bits[:flipped] ^= 1
        items.append(Item(DifferenceHash(np.packbits(bits).tobytes(), float(brightness)), str(image_id), label))
    expected = {
        (i, j)
        for j, other in enumerate(items)
        for i, one in enumerate(items[:j])
        if distance(one.hash, other.hash) <= MAX_BITS and abs(one.hash.brightness - other.hash.brightness) <= 8
        if one.label != other.label and one.id != other.id
    }
    pairs = near_siblings(items)
    assert set(pairs) <= expected
    assert len(set(pairs)) == len(pairs) < max(1, len(items))
    assert bool(pairs) == bool(expected)
    darker = {min(pair, key=lambda index: (items[index].hash.brightness, index)) for pair in expected}
    assert len(pairs) == len(darker)  # each of them is in one pair
