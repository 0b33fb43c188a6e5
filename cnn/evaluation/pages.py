"""Pages: self-contained HTML from the templates beside this module, with images inside."""

import io
from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """The page that a template makes of these values; all text in them is escaped.

    >>> "<h1>1 &lt; 2</h1>" in render("base.html", title="1 < 2")
    True
    """
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(values)


def thumbnail(image: Image.Image, side: int = 160) -> str:
    """An RGB image, no longer than ``side`` px, as a ``data:`` address: about 7 KB.

    >>> thumbnail(Image.new("RGB", (800, 600)))[:22]
    'data:image/jpeg;base64'
    """
    small, encoded = image.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(encoded, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(encoded.getvalue()).decode('ascii')}"
