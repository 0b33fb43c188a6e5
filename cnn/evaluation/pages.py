"""Pages: self-contained HTML from the templates beside this module, with images inside."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.support.parallel import ordered_map

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Card:
    """An image by its name, what is said of it, and what is striking."""

    name: str
    line: str
    mark: str = ""


def render(template: str, **values: Any) -> str:
    """The page that a template makes of these values; all text in them is escaped.

    >>> "<h1>1 &lt; 2</h1>" in render("base.html", title="1 < 2")
    True
    """
    return _TEMPLATES.get_template(template).render(values)


def thumbnail(image: Image.Image, side: int = 160) -> str:
    """An RGB image, no longer than ``side`` px, as a ``data:`` address: about 7 KB.

    >>> thumbnail(Image.new("RGB", (800, 600)))[:22]
    'data:image/jpeg;base64'
    """
    small, encoded = image.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(encoded, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(encoded.getvalue()).decode('ascii')}"


def thumbnails(dataset: Dataset, names: set[str]) -> dict[str, str]:
    """The images of these names as ``data:`` addresses; those left out as copies look as what they are copies of."""
    originals = {copy.name: copy.same_as for copy in dataset.duplicates if copy.name in names}
    wanted = (names - originals.keys()) | set(originals.values())
    rows = (row for split in dataset.splits for row in dataset.rows(split) if row.name in wanted)
    found = dict(ordered_map(_named_thumbnail, rows))
    return found | {name: found[original] for name, original in originals.items()}


def _named_thumbnail(row: Row) -> tuple[str, str]:
    return row.name, thumbnail(decode(row.data))


def embedded(file: Path) -> str:
    """A PNG file as a ``data:`` address."""
    return f"data:image/png;base64,{b64encode(file.read_bytes()).decode('ascii')}"
