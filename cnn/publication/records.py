"""Records: which files a version has, and ``manifest.json`` as it was written. Needs only Python's own library."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from cnn.publication.exchange import put
from cnn.support.files import NO_FILE, atomic_file, read_file, text_digest
from cnn.support.remote import refresh

MANIFEST_FILE, CHAMPION_FILE, REPORT_PAGE = "manifest.json", "champion.json", "report.html"
CLASSES_FILE, NOVELTY_FILE, IMAGES_FILE = "classes.json", "novelty.npz", "images.parquet"
#: A larger file is neither a manifest nor a ``champion.json``.
MAX_BYTES = 1 << 26
CHECKSUM = "checksum"


class DamagedManifestError(ValueError):
    """A ``manifest.json`` is not there, empty, cut off or altered: nothing that it says can be trusted."""


def network_files(architecture: str) -> tuple[str, str, str]:
    """Names of the files that hold a network: symbol and parameters for any MXNet binding, and ONNX.

    >>> network_files("vgg")
    ('vgg-symbol.json', 'vgg-0000.params', 'vgg.onnx')
    """
    return f"{architecture}-symbol.json", f"{architecture}-0000.params", f"{architecture}.onnx"


def image_file(architecture: str) -> str:
    """Name of the ONNX file that takes an image of any size.

    >>> image_file("vgg")
    'vgg-image.onnx'
    """
    return f"{architecture}-image.onnx"


def integer_file(architecture: str) -> str:
    """Name of the ONNX file that computes in integers of 8 bits.

    >>> integer_file("vgg")
    'vgg-int8.onnx'
    """
    return f"{architecture}-int8.onnx"


def read_manifest(version: Path) -> dict[str, Any]:
    """What the manifest of a published version says, once its checksum has been verified.

    Raises:
        DamagedManifestError: it is not there, or not as it was written.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(read_file(version / MANIFEST_FILE, MAX_BYTES))
        checksum = content.pop(CHECKSUM, None)
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise DamagedManifestError(f"its {MANIFEST_FILE} is missing or no file") from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedManifestError(f"its {MANIFEST_FILE} is damaged: it is not a JSON object") from error
    is_earlier = checksum is None and "outlook" not in content  # the first releases wrote neither
    if not is_earlier and checksum != content_checksum(content):
        raise DamagedManifestError(f"its {MANIFEST_FILE} was altered: it does not match its checksum")
    return content


def content_checksum(content: dict[str, Any]) -> str:
    """Digest of JSON, whatever its layout.

    >>> content_checksum({"a": 1, "b": 2}) == content_checksum({"b": 2, "a": 1})
    True
    """
    return text_digest(json.dumps(content, sort_keys=True))


@dataclass(frozen=True)
class Champion:
    """The published best: which version, its metrics, its notes, since when.

    ``by`` is who promoted it by hand, empty if the gate did; ``former`` are the champions before it, the last one last.
    """

    version: str
    metrics: dict[str, Any]
    notes: tuple[str, ...]
    since: str
    by: str = ""
    former: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What ``champion.json`` in a model's folder says.

        Raises:
            ValueError: something else than a champion.
            OSError: there is no such file, or it cannot be read.
        """
        refresh(folder / CHAMPION_FILE)
        known = {field.name for field in fields(cls)}
        try:
            content = json.loads(read_file(folder / CHAMPION_FILE, MAX_BYTES))
            found = cls(**{name: value for name, value in content.items() if name in known})
            folder / found.version  # a TypeError, if it is no text
            return found
        except (AttributeError, TypeError, RecursionError) as error:
            raise ValueError("not a champion") from error

    def save(self, folder: Path) -> None:
        """Write ``champion.json``, in a single step."""
        with atomic_file(folder / CHAMPION_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False), encoding="utf-8")
            put(temporary, folder / CHAMPION_FILE)
