"""References: what travels between the steps of a pipeline instead of the data itself."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from cnn.support.digests import content_digest


class Reference(BaseModel):
    """Where a result is, what it is, and what a reader of it must know.

    Attributes:
        path: absolute path of a file or folder.
        digest: identity of the content, the same wherever and whenever it was made; this goes into cache keys.
        checksum: SHA-256 of the bytes there; empty for a subclass that checks them in another way.
        notes: sentences that every model made from this must repeat, such as that the images were drawn.
        licence: under which it was published, as far as that is known.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    digest: str
    checksum: str
    notes: tuple[str, ...] = ()
    licence: str = ""

    @classmethod
    def to(cls, path: Path, digest: str | None = None, notes: tuple[str, ...] = (), licence: str = "") -> Self:
        """Refer to the file or folder ``path`` as it is now; without a ``digest``, its checksum identifies it."""
        path = path.absolute()
        checksum = content_digest(path)
        return cls(path=path, digest=digest or checksum, checksum=checksum, notes=notes, licence=licence)

    def is_intact(self) -> bool:
        """Whether the file or folder is still there with the same bytes."""
        try:
            return self.path.exists() and content_digest(self.path) == self.checksum
        except OSError:
            return False
