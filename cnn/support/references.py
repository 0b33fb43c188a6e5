"""References: what travels between the steps of a pipeline instead of the data itself."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from cnn.support import remote
from cnn.support.digests import content_digest
from cnn.support.objects import is_address


def _path(value: Any) -> Any:
    return str(remote.local_path(value)) if isinstance(value, str) and is_address(value) else value


#: A path that is written down as its address, if it has one, so that another machine finds it under its own.
SharedPath = Annotated[
    Path,
    BeforeValidator(_path),
    PlainSerializer(lambda path: remote.address_of(path) or str(path), when_used="json"),
]


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

    path: SharedPath
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
        """Whether the file or folder is still there with the same bytes; at an address, as it was shared."""
        try:
            if remote.address_of(self.path):
                return remote.holds(self.path, self.checksum)
            return self.path.exists() and content_digest(self.path) == self.checksum
        except OSError:
            return False

    def shared(self) -> Self:
        """Put what it refers to to its address, if it has one; what another machine put there first is kept.

        Returns:
            The reference to what is there.
        """
        if remote.address_of(self.path) is None:
            return self
        remote.share(self.path)
        checksum = content_digest(self.path)
        digest = checksum if self.digest == self.checksum else self.digest
        return self.model_copy(update={"checksum": checksum, "digest": digest})

    def fetch(self) -> None:
        """Have what it refers to on this machine; raises as `cnn.support.objects.Object` does."""
        remote.fetch(self.path)
