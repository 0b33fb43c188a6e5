"""Text from outside in figures: drawn as it is, in a font that has it, or else spelled out."""

import logging
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAST_RESORT = "Last Resort"  # this font shows the same box for each character of a script

# that a font has no normal weight is of no use to anybody
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@cache
def _codes_of(family: str) -> frozenset[int]:
    """Code points of the characters that a family of fonts has; none if its file cannot be read."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # half a second, see `plots`

    try:
        return frozenset(get_font(findfont(FontProperties(family=[family]))).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _families(text: str) -> list[str]:
    """Families of installed fonts, the usual one first, that together have as much of the text as can be."""
    from matplotlib.font_manager import FontProperties, fontManager

    families = [FontProperties().get_name()]
    missing = set(map(ord, text)) - _codes_of(families[0])
    for family in sorted({font.name for font in fontManager.ttflist}) if missing else ():
        if not family.startswith(_LAST_RESORT) and missing & _codes_of(family):
            families.append(family)
            missing -= _codes_of(family)
    return families


def legible(text: str) -> str:
    r"""The text with each character that no installed font has, or that cannot be seen, as an escape.

    >>> legible("caf\u00e9 $1\n"), legible("\x1b[31m\ue000")
    ('café $1\\n', '\\x1b[31m\\ue000')
    """
    text = text.encode(errors="replace").decode()  # bytes of a name that are not UTF-8
    codes = frozenset[int]().union(*map(_codes_of, _families(text)))
    return "".join(
        character
        if ord(character) in codes and character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def draw_as_it_is(figure: "Figure") -> None:
    """Take no text of a figure for a formula, and draw each in a font that has its characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(_families(text.get_text().replace("\n", "")))
