"""The dataset ``sample``: drawn images of hotdogs and of food that is easily mistaken for one; needs no download.

Every shape is a signed distance field: the distance of each pixel from the outline, negative inside. Smooth edges,
the shading of round surfaces and shadows follow from it (I. Quilez, "2D distance functions").
Lengths are in units of about half a food's length, where they are not said to be in px.
"""

import io
import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.images import Pixels
from cnn.support.files import atomic_file
from cnn.support.progress import track

CLASSES = ("hotdog", "not_hotdog")
#: Height and width of an image in px.
SIZE = 256
JPEG_QUALITY = 92

Field = NDArray[np.float32]


def _rgb(codes: str) -> Field:
    """Colours RRGGBB as values 0…1, shape (n, 3, 1, 1).

    >>> _rgb("FF0033 000000")[0].round(1).ravel().tolist() == [1, 0, np.float32(0.2)]
    True
    """
    return np.frombuffer(bytes.fromhex(codes), np.uint8).reshape(-1, 3, 1, 1) / np.float32(255)


BREAD = _rgb("D9964A C98036 E3AC62 B86F2C")
CRUMB = _rgb("F2DBA8 EACB90")
SAUSAGE = _rgb("B5482E C65F3C 96382A CF7350")
MUSTARD = _rgb("F4C514 E5AE12 FAD73C")
LETTUCE = _rgb("6DA636 8CBF4A 4F8A2B")
TOMATO = _rgb("CF3A28 DB4E35")
YELLOW = _rgb("F3D24A EBB832 F4DE73")
WOOD = _rgb("A9713F C79A66 7A4E2D D8C3A0 8F8578")
PAINT = _rgb("E9D8B0 B9CDD6 D77A5B E7B94C 7F9F73 4C5A73 EDEAE4 B7803F B23B32")
CHINA = _rgb("F4F2EC E6E2D6 9DB7C4 4A5560 D8B98C")


def _norm(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y)  # five times as fast as np.hypot


def capsule(x: Field, y: Field, length: float, radius: float | Field) -> Field:
    """Distance to a stick along x with round ends whose centres are ``length`` apart.

    >>> capsule(np.float32([0, 2]), np.float32([0, 0]), 2, 0.5).tolist()
    [-0.5, 0.5]
    """
    return _norm(np.maximum(abs(x) - length / 2, 0), y) - radius


def zigzag(x: Field, y: Field, length: float, period: float, height: float, width: float) -> Field:
    """Distance to a zigzag line along x; folded at its corners it is one straight segment.

    >>> zigzag(np.float32([0, 0.5, 1]), np.float32([1, -1, 1]), 9, 1, 1, 0.5).tolist()
    [-0.25, -0.25, -0.25]
    """
    run, rise = period / 2, 2 * height
    along, down = abs((x / period) % 1 - 0.5) * period, y + height
    nearest = np.clip((along * run + down * rise) / (run**2 + rise**2), 0, 1)
    return np.maximum(_norm(along - nearest * run, down - nearest * rise) - width / 2, abs(x) - length / 2)


def mix(first: float | Field, second: float | Field, share: NDArray[Any]) -> Field:
    """Mix two values or colours: the first where ``share`` is ≤ 0, the second where it is ≥ 1, linear between."""
    return first + (second - first) * np.clip(share, 0, 1).astype(np.float32)


class Scene:
    """An image that is being painted: ``pixels`` (3, SIZE, SIZE), values 0…1, lit from ``light`` (down, right).

    ``x`` (right) and ``y`` (down) are the pixels' coordinates relative to the shape that is painted next.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.between = rng, rng.uniform
        angle = self.between(0, 2 * math.pi)
        self.light = math.sin(angle), math.cos(angle)
        self.noise = self.clouds(4) + self.clouds(16) / 4 + self.clouds(64) / 8
        self.pixels = np.zeros((3, SIZE, SIZE), np.float32)
        self.place(SIZE / 2, angle)

    def clouds(self, cells: int) -> Field:
        """Smooth noise of mean 0 and standard deviation about ½ from a grid of ``cells`` × ``cells`` random values."""
        grid = Image.fromarray(self.rng.standard_normal((cells, cells), np.float32) / 2)
        return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))

    def pick(self, palette: Field) -> Field:
        """A random mix of two random colours of the palette."""
        first, second = palette[self.rng.integers(len(palette), size=2)]
        return first + (second - first) * np.float32(self.rng.random())

    def place(self, unit: float, angle: float, right: float = 0, down: float = 0) -> None:
        """Put the origin ``right`` and ``down`` of the centre, turn by ``angle`` radians; a unit has ``unit`` px."""
        positions = (np.arange(SIZE, dtype=np.float32) - SIZE / 2) / unit
        x, y, cos, sin = positions - right, positions[:, None] - down, math.cos(angle), math.sin(angle)
        self.unit, self.x, self.y = unit, x * cos + y * sin, y * cos - x * sin

    def paint(self, distance: Field, colour: Field, height: float = 0.01, gloss: float = 0.1) -> None:
        """Paint a shape with a rounded edge of ``height``; ``colour`` is one colour or one per pixel."""
        depth, reach = -distance * self.unit, 2 + height * self.unit
        rows, columns = (np.flatnonzero((depth > -reach).any(axis=axis)) for axis in (1, 0))
        if min(rows.size, columns.size) < 2:  # too little of it is inside the image
            return
        part = np.s_[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        depth, pixels = depth[part], self.pixels[part]
        shine, cover = shining(depth, self.light, height * self.unit), np.clip(depth + 0.5, 0, 1)
        tone = (1 + 0.05 * self.noise[part]) * (0.62 + 0.48 * shine)
        pixels *= (1 - cover) * (1 - 0.5 * shadow(depth, self.light, reach))
        pixels += (colour[part] if colour.shape[-1] > 1 else colour) * (tone * cover)
        pixels += gloss * np.maximum(8 * shine - 7, 0) ** 2 * cover


def shining(depth: Field, light: tuple[float, float], radius: float) -> Field:
    """Light (-0.4…1) reflected by a surface that is round within ``radius`` px of its edge."""
    down, right = np.gradient(depth)
    steep = np.clip(1 - depth / radius, 0, 1)
    return np.clip(0.8 * np.sqrt(1 - steep**2) - 0.6 * steep * (down * light[0] + right * light[1]), -0.4, 1)


def shadow(depth: Field, light: tuple[float, float], reach: float) -> Field:
    """Darkness (0…1) of the ground beside a shape, up to ``reach`` px away from the light."""
    for axis, direction in enumerate(light):
        positions = np.arange(depth.shape[axis]) + round(0.5 * reach * direction)
        depth = depth.take(positions, axis, mode="clip")
    return np.clip(0.5 + depth / reach, 0, 1)


def _wood(scene: Scene) -> Field:
    across = scene.y / scene.between(0.3, 0.6)
    plank = np.floor(across)  # sin(78.2 n), here and below, looks random
    grain = np.sin(60 * scene.y + 5 * scene.noise + 9 * plank + 3 * np.sin(scene.x * 2 + plank)) * 0.05
    tone = (1 + 0.12 * np.sin(plank * 78.2) + grain) * mix(1, 0.5, abs(across - plank - 0.5) > 0.48)
    return scene.pick(WOOD) * tone


def _cloth(scene: Scene) -> Field:
    cells = 1 / scene.between(0.15, 0.4)
    stripes = (scene.x * cells % 2 < 1) * 0.5 + (scene.y * cells % 2 < 1) * 0.5
    weave = 1 + 0.04 * np.sin(scene.x * 150) * np.sin(scene.y * 150)
    return mix(scene.pick(CHINA), scene.pick(PAINT), stripes) * weave


def _stone(scene: Scene) -> Field:
    return scene.pick(PAINT) * (1 + scene.between(0, 0.3) * (scene.noise + (scene.clouds(128) > 0.8)))


def _tableware(scene: Scene) -> None:
    if scene.rng.random() < 0.4:
        scene.paint(np.maximum(abs(scene.x) - 1.25, abs(scene.y) - 0.85), _wood(scene), 0.08, 0)
    else:
        distance, china = _norm(scene.x, scene.y) - scene.between(1.1, 1.4), scene.pick(CHINA)
        scene.paint(distance, china, 0.1)
        scene.paint(abs(distance + 0.3) - 0.02, china * 0.85)


def _bun_half(scene: Scene, bread: Field, across: float, thick: float, length: float = 1.3) -> None:
    distance = capsule(scene.x, scene.y - across, length, thick) + 0.03 * scene.noise
    scene.paint(distance, bread * mix(1.25, 0.85, -distance / thick), thick, 0.05)


def _sausage(scene: Scene, across: float = 0) -> None:
    thick, skin = scene.between(0.15, 0.2), scene.pick(SAUSAGE)
    if scene.rng.random() < 0.4:  # grilled
        skin = skin * mix(1, 0.6, 4 * np.sin(scene.x * 22 + scene.y * 10) - 2.5)
    scene.paint(capsule(scene.x, scene.y - across, scene.between(1.45, 1.75), thick), skin, thick, 0.35)


def _mustard(scene: Scene, across: float = 0) -> None:
    length, period, height = scene.between(1.2, 1.6), scene.between(0.22, 0.4), scene.between(0.06, 0.1)
    line = zigzag(scene.x, scene.y - across, length, period, height, scene.between(0.07, 0.11))
    scene.paint(line, scene.pick(MUSTARD), 0.05, 0.3)


def _hotdog(scene: Scene, filled: bool = True) -> None:
    bread, thick, gap = scene.pick(BREAD), scene.between(0.22, 0.3), scene.between(0.24, 0.36)
    _bun_half(scene, bread, -gap, thick)
    crumb = mix(scene.pick(BREAD) * 0.7, scene.pick(CRUMB), 6 * abs(scene.y + 0.03))
    scene.paint(capsule(scene.x, scene.y, 1.2, 0.24) + 0.04 * scene.noise, crumb)
    if filled:
        _sausage(scene)
    if filled or scene.rng.random() < 0.5:
        _mustard(scene)
    _bun_half(scene, bread, gap + scene.between(0, 0.1), thick)


def _sausages(scene: Scene) -> None:
    count = int(scene.rng.integers(1, 4))
    for across in (0.42 * (number - (count - 1) / 2) for number in range(count)):
        _sausage(scene, across)
        if scene.rng.random() < 0.5:
            _mustard(scene, across)


def _sandwich(scene: Scene) -> None:
    x, y, bread = scene.x, scene.y, scene.pick(BREAD)
    ripple = 0.04 * np.sin(x * scene.between(14, 22)) + 0.03 * scene.noise
    _bun_half(scene, bread, -0.2, 0.28, 1.5)
    scene.paint(capsule(x, y, 1.6, 0.2) + ripple, scene.pick(LETTUCE), 0.06)
    slices = np.maximum(_norm((x + 0.9) % 0.36 - 0.18, y - 0.02) - 0.17, abs(x) - 0.72)
    scene.paint(slices, scene.pick(TOMATO), 0.05, 0.3)
    scene.paint(capsule(x, y - 0.13, 1.5, 0.08) - ripple, scene.pick(YELLOW), 0.04)
    _bun_half(scene, bread, 0.32, 0.26, 1.5)


def _banana(scene: Scene) -> None:
    x, y = scene.x, scene.y + 0.35 * scene.x**2 - 0.15
    peel = mix(scene.pick(YELLOW), scene.pick(WOOD) * 0.4, 12 * (abs(x) - 0.86))
    ridge = mix(1, 0.75, abs(y - 0.03) < 0.012)
    scene.paint(capsule(x, y, 1.7, 0.22 - 0.17 * abs(x) ** 3), peel * ridge, 0.2)


def _fries(scene: Scene) -> None:
    x, y, potato = scene.x, scene.y, scene.pick(YELLOW)
    side = abs(x) - 0.55 + 0.2 * y
    for back in (1, 0):
        along = 10 * x / (1.6 - 0.8 * np.minimum(y, 1)) + back / 2
        top = 0.75 + 0.15 * back + 0.2 * np.sin(np.floor(along) * 78.2 + scene.between(0, 9))
        sticks = np.maximum.reduce([abs(along % 1 - 0.5) / 6 - 0.075, -y - top, y - 0.2, side + 0.02])
        scene.paint(sticks, potato * (1 - 0.1 * back), 0.05)
    carton = np.maximum.reduce([side, y - 0.9, 0.3 * (1 - x**2) - y - 0.15])
    scene.paint(carton, mix(scene.pick(PAINT), scene.pick(CHINA), abs(x * 4 % 1 - 0.5) > 0.3), 0.06)


def _burger(scene: Scene) -> None:
    x, y, bread = scene.x, scene.y, scene.pick(BREAD)
    wave = 0.03 * np.sin(x * scene.between(14, 22)) + 0.02 * scene.noise
    scene.paint(capsule(x, y - 0.48, 1.2, 0.16), bread * 1.1, 0.14)
    scene.paint(capsule(x, y - 0.26, 1.4, 0.12) + wave, scene.pick(SAUSAGE) * 0.55, 0.1)
    scene.paint(capsule(x, y - 0.12 + 0.12 * abs(x * 2.5 % 1 - 0.5), 1.45, 0.05), scene.pick(YELLOW), 0.03)
    scene.paint(capsule(x, y - 0.05, 1.3, 0.06), scene.pick(TOMATO), 0.05, 0.3)
    scene.paint(capsule(x, y + 0.04 + 2 * wave, 1.5, 0.07), scene.pick(LETTUCE), 0.05)
    dome = np.maximum(_norm(x / 1.25, y + 0.02) - 0.66, y + 0.08)
    scene.paint(dome, bread * mix(1.15, 0.85, dome * -3.0), 0.35)
    sesame = _norm((x * 5 + np.floor(y * 7) / 2) % 1 - 0.5, (y * 7 % 1 - 0.5) * 0.8) / 5 - 0.05
    scene.paint(np.maximum(sesame, dome + 0.12), scene.pick(CRUMB), 0.02)


#: What the images of each class show.
_FOODS: dict[str, list[Callable[[Scene], None]]] = {
    "hotdog": [_hotdog],
    "not_hotdog": [partial(_hotdog, filled=False), _sausages, _sandwich, _banana, _fries, _burger],
}


def draw(label: str, seed: int, index: int) -> Pixels:
    """Draw image ``index`` ≥ 0 of a class: (SIZE, SIZE, 3), values 0…255, independent of what else is drawn.

    Raises:
        ValueError: ``label`` is not one of `CLASSES`.
    """
    scene = Scene(np.random.default_rng([seed, index, CLASSES.index(label)]))
    rng, between = scene.rng, scene.between
    scene.pixels[:] = (_wood, _cloth, _stone)[rng.integers(3)](scene)
    paint_food = _FOODS[label][rng.integers(len(_FOODS[label]))]
    turn = 0.4 if paint_food in (_fries, _burger) else math.pi  # radians; these two stand upright
    scene.place(between(70, 120), between(-turn, turn), between(-0.25, 0.25), between(-0.25, 0.25))
    if rng.random() < 0.4:
        _tableware(scene)
    scene.y = scene.y * between(0.9, 1.2) + between(-0.12, 0.12) * scene.x**2
    paint_food(scene)
    return _photograph(scene)


def _photograph(scene: Scene) -> Pixels:
    """The scene in uneven, tinted light with the blur of a lens and the noise of a sensor: (SIZE, SIZE, 3), 0…255."""
    from skimage.filters import gaussian  # slow to import, and not needed unless images are drawn

    scene.place(SIZE / 2, math.atan2(*scene.light))
    tint = 1 + scene.between(-0.06, 0.12) * np.array([1, 0, -1], np.float32).reshape(3, 1, 1)
    light = scene.between(0.7, 1.15) * (1 + scene.between(0, 0.25) * scene.x)
    pixels = gaussian(scene.pixels * tint * light, scene.between(0.3, 1.2), truncate=2, channel_axis=0)
    pixels += scene.between(0.005, 0.025) * scene.rng.standard_normal((SIZE, SIZE), np.float32)
    return np.ascontiguousarray(np.moveaxis((np.clip(pixels, 0, 1) * 255).astype(np.uint8), 0, -1))


def write_sample(path: Path, seed: int, count: int = 400) -> None:
    """Write ``count`` images of alternating classes as a zip of class folders; same arguments, same bytes."""
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for number in track(range(count), "drawing", total=count, unit="image"):
            index, label = number // len(CLASSES), CLASSES[number % len(CLASSES)]
            jpeg = io.BytesIO()
            Image.fromarray(draw(label, seed, index)).save(jpeg, "JPEG", quality=JPEG_QUALITY)
            entry = zipfile.ZipInfo(f"{label}/{index:04d}.jpg")  # without the present time: the date is 1980
            entry.external_attr = 0o644 << 16  # rw-r--r--
            archive.writestr(entry, jpeg.getvalue())
