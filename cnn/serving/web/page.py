"""The pages that a browser gets, each with a policy that allows what it holds and nothing else."""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

_PAGE = Path(__file__).parent / "templates" / "page.html"
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Page(NamedTuple):
    """HTML and its Content-Security-Policy."""

    html: str
    policy: str


def start_page(version: str) -> Page:
    """The page for visitors: one file, which asks nobody but this server; ``version`` is JSON of what answers."""
    html, policy = _template()
    return Page(html.replace("VERSION", version.replace("<", "\\u003c"), 1), policy)


@cache
def _template() -> Page:
    html = _PAGE.read_text(encoding="utf-8")
    parts = [_NOTHING_ELSE, allowed("style", html), allowed("script", html)]
    return Page(html, "; ".join([*parts, "img-src data:", "connect-src 'self'"]))


def report_page(html: str) -> Page:
    """The report of a version: its own style, the images inside it, and no script."""
    return Page(html, "; ".join([_NOTHING_ELSE, allowed("style", html), "img-src data:"]))


def allowed(kind: str, html: str) -> str:
    """The part of a policy that allows the ``style`` or ``script`` blocks of a page by their digests.

    >>> allowed("script", "<script>1</script>")
    "script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    """
    blocks = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
    digests = [b64encode(sha256(block.encode()).digest()).decode() for block in blocks]
    return f"{kind}-src " + (" ".join(f"'sha256-{digest}'" for digest in digests) or "'none'")
