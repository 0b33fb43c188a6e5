"""Objects in object storage, by addresses such as s3://bucket/store: read and put whole or not at all, listed, deleted.

obstore is imported when an address is first used. It takes credentials from the environment, as the tools of the
provider do: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME … What
fails for a moment is tried again, also from the middle of an object on.
"""

import errno
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cnn.support.errors import TransientError, UserError
from cnn.support.files import atomic_file, file_digest

SCHEMES = ("s3", "gs", "az")
_DIGEST = "sha256"  # of an object's metadata
_RETRIES: Any = {"max_retries": 6, "retry_timeout": timedelta(minutes=1)}  # with growing pauses
_CLIENT: Any = {"allow_http": True, "timeout": timedelta(minutes=2)}  # only an endpoint of one's own may be http://
#: Requests at a time.
TOGETHER = 16
_GAP = 1 << 13  # bytes between two parts up to which it is faster to read them, too
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")


class ConflictError(TransientError):
    """Another machine has put or replaced an object first."""


class AlteredError(UserError):
    """An object has other bytes than when it was put."""


class Stored(NamedTuple):
    """What is known of an object that was not read: bytes, ETag, generation (of gs://), SHA-256 if it was put by us."""

    size: int
    e_tag: str | None
    version: str | None
    digest: str = ""


#: What an object may be put over: a version of it, anything, or nothing.
Over = Stored | Literal["anything"] | None


def is_address(text: str) -> bool:
    """Whether a text is an address in object storage.

    >>> is_address("s3://bucket/store"), is_address("photos")
    (True, False)
    """
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES


class Object(NamedTuple):
    """An object, or a prefix of objects; all that it does raises the same errors.

    Raises:
        TransientError: object storage does not answer; the same may succeed later.
        UserError: there is no such bucket, no permission, no obstore.
    """

    address: str

    def __truediv__(self, name: str) -> "Object":
        return Object(f"{self.address}/{name}")

    @property
    def bucket(self) -> str:
        """The address of its bucket."""
        return "/".join(self.address.split("/")[:3])

    @property
    def key(self) -> str:
        """Its name in the bucket; empty: all of it."""
        return self.address[len(self.bucket) :].strip("/")

    @property
    def store(self) -> Any:
        """Its bucket, for obstore."""
        return _open_bucket(self.bucket)

    def stored(self) -> Stored | None:
        """What is known of it; None: it is not there."""
        with suppress(FileNotFoundError), _explained(self):
            found = _obstore().get(self.store, self.key, options={"head": True})
            return _stored(found.meta, found.attributes.get(_DIGEST, ""))
        return None

    def read(self) -> tuple[bytes, Stored] | None:
        """Its bytes; None: it is not there."""
        with suppress(FileNotFoundError), _explained(self):
            found = _obstore().get(self.store, self.key)
            return bytes(found.bytes()), _stored(found.meta)
        return None

    def read_parts(self, begins: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Parts of its bytes, several at a time; raises a FileNotFoundError if it is not there."""
        with _explained(self):
            return _obstore().get_ranges(self.store, self.key, starts=begins, ends=ends, coalesce=_GAP)

    def download(self, path: Path, digest: str = "", e_tag: str | None = None) -> None:
        """Write it to a file, whole or not at all.

        Raises:
            FileNotFoundError: it is not there.
            ConflictError: it has another ``e_tag``.
            AlteredError: it has another ``digest``.
        """
        with atomic_file(path) as temporary:
            with temporary.open("wb") as file, _explained(self):
                for block in _obstore().get(self.store, self.key, options={"if_match": e_tag} if e_tag else None):
                    file.write(block)
            if digest and file_digest(temporary) != digest:
                raise AlteredError(f"{self.address}: it was altered since it was written; delete it.")

    def put(self, source: Path | bytes, digest: str, over: Over = "anything") -> Stored:
        """Put a file or bytes, whole or not at all.

        Raises:
            ConflictError: something else is there now, and other bytes. If they are the same, they were put before, and
                the answer was lost.
        """
        mode: Any = "overwrite" if over == "anything" else "create"
        if isinstance(over, Stored):
            versions = {"e_tag": over.e_tag, "version": over.version}
            mode = {name: version for name, version in versions.items() if version}
        try:
            with _explained(self):
                found = _obstore().put(self.store, self.key, source, attributes={_DIGEST: digest}, mode=mode)
        except ConflictError:
            there = self.stored()
            if there and there.digest == digest:
                return there
            raise
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        return Stored(size, found["e_tag"], found["version"], digest)

    def below(self) -> dict[str, Stored]:
        """The objects below it by relative names, sorted; those without a name that a file can have are left out."""
        begin = len(self.key) + 1 if self.key else 0
        with _explained(self):
            pages = _obstore().list(self.store, self.key or None)
            found = {meta["path"][begin:]: _stored(meta) for page in pages for meta in page}
        return {name: found[name] for name in sorted(found) if {"", ".", ".."}.isdisjoint(name.split("/"))}

    def names(self) -> set[str]:
        """Names of the objects and of the prefixes immediately below it."""
        with _explained(self):
            found = _obstore().list_with_delimiter(self.store, self.key or None)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return {path.rpartition("/")[2] for path in paths}

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects that are below it, of which it is itself the one without a name."""
        if keys := [(self / name).key for name in names]:
            with _explained(self):
                _obstore().delete(self.store, keys)


def _obstore() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise UserError("s3://, gs:// and az:// need the package obstore: install requirements/scale.txt.") from error
    return obstore


def _stored(meta: Any, digest: str = "") -> Stored:
    return Stored(meta["size"], meta["e_tag"], meta["version"], digest)


@functools.cache
def _open_bucket(address: str) -> Any:
    store = _obstore().store
    try:
        return store.from_url(address, client_options=_CLIENT, retry_config=_RETRIES)
    except Exception as error:  # whatever its configuration lacks
        raise UserError(f"{address}: {_first_line(error)}; check what the environment says of it.") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:300]


@contextmanager
def _explained(place: Object) -> Iterator[None]:
    """Turn what object storage answers into a sentence or, for an object that is not there, into the system's error."""
    kinds = _obstore().exceptions
    try:
        yield
    except FileNotFoundError as error:
        if any(words in str(error) for words in _NO_BUCKET):
            raise UserError(f"{place.bucket}: there is no such bucket; create it, or name another.") from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place.address) from error
    except (kinds.AlreadyExistsError, kinds.PreconditionError) as error:
        raise ConflictError(f"{place.address}: it was replaced meanwhile; run the same command again.") from error
    except (kinds.PermissionDeniedError, kinds.UnauthenticatedError) as error:
        raise UserError(f"{place.address}: access is denied; check the credentials in the environment.") from error
    except kinds.BaseError as error:
        if "169.254.169.254" in str(error):  # where a cloud's own machines find theirs
            raise UserError(f"{place.bucket}: there are no credentials in the environment; set them.") from error
        reason = f"object storage cannot be used now ({_first_line(error)})"
        raise TransientError(f"{place.address}: {reason}; the same command goes on from here.") from error
