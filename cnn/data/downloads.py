"""Downloads of catalogued files: a mirror is tried first, a broken download resumed, and every file verified."""

import logging
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import requests

from cnn.data.catalog import WEIGHTS, CatalogFile
from cnn.data.transfers import FAILURES, describe_failure, is_url, receive, request
from cnn.support.errors import TransientError, UserError
from cnn.support.files import atomic_file, file_digest, locked, naming_full
from cnn.support.places import given_path
from cnn.support.progress import progress_bar
from cnn.support.remote import is_shared

logger = logging.getLogger(__name__)

#: Seconds in which all addresses together have to respond to `probe`.
PROBE_SECONDS = 10.0
#: Seconds in which the response, and then each 64 KiB of it, have to be received: a slower server counts as broken.
BLOCK_SECONDS = 30.0
#: Seconds in which a file has to be received; the next attempt resumes.
TOTAL_SECONDS = 86_400.0
#: More is not received of a file whose size the catalog does not know.
MAX_UNKNOWN_BYTES = 1 << 31


class DownloadError(Exception):
    """One address did not give the file; ``transient`` says whether it may do so later."""

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


def _rejection(response: requests.Response) -> DownloadError:
    busy = response.status_code == requests.codes.too_many_requests
    return DownloadError(f"HTTP {response.status_code}", transient=busy or response.status_code >= 500)


def addresses(file: CatalogFile, mirror: str | None) -> list[str]:
    """Where to look for ``file``, in order: in the mirror (a folder or a URL), then at the catalog's addresses.

    >>> addresses(CatalogFile("a.zip", ("https://example.org/a.zip",), "sha1", "0"), "http://localhost:1/x/")
    ['http://localhost:1/x/a.zip', 'https://example.org/a.zip']
    """
    first = [f"{mirror.rstrip('/')}/{file.name}"] if mirror else []
    return first + list(file.addresses)


def _look_for(path: str) -> DownloadError | None:
    try:
        return None if given_path(path).is_file() else DownloadError("no such file")
    except ValueError as error:
        return DownloadError(str(error))


def _probe_one(address: str) -> DownloadError | None:
    if not is_url(address):
        return _look_for(address)
    try:
        with request(address) as response:
            return None if response.ok else _rejection(response)
    except FAILURES as error:
        is_invalid = isinstance(error, ValueError)
        return DownloadError(describe_failure(error), transient=not is_invalid)


def probe(candidates: Iterable[str]) -> dict[str, DownloadError | None]:
    """Ask all addresses at once whether they have their file: None, or why not. Takes `PROBE_SECONDS` at most.

    >>> probe(["/no/such/file"])
    {'/no/such/file': DownloadError('no such file')}
    """
    late = DownloadError(f"no response within {PROBE_SECONDS:g} s", transient=True)
    results: dict[str, DownloadError | None] = dict.fromkeys(candidates, late)
    threads = [
        # daemon threads: a name look-up that hangs must not keep the process from ending
        threading.Thread(target=lambda a=address: results.__setitem__(a, _probe_one(a)), daemon=True)
        for address in results
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(results)


def _is_downloaded(file: CatalogFile, folder: Path) -> bool:
    path = folder / file.name
    return path.is_file() and file_digest(path, file.algorithm) == file.digest


def _is_kept(file: CatalogFile, folder: Path) -> bool:
    """Whether a file is intact in ``folder``, or at its address, to which only verified files go."""
    return _is_downloaded(file, folder) or is_shared(folder / file.name)


def available(files: Sequence[CatalogFile], folder: Path, mirror: str | None) -> list[CatalogFile]:
    """Those of ``files`` that are intact in ``folder``, or that some address has now."""
    present = [file for file in files if _is_kept(file, folder)]
    results = probe(address for file in files if file not in present for address in addresses(file, mirror))
    return [file for file in files if file in present or None in map(results.get, addresses(file, mirror))]


def best_weights(backbone: str, downloads: Path, mirror: str | None) -> str:
    """The name in the catalog of the best weights of a backbone that are available.

    That is ``imagenet``; or ``packaged``, if there are these, where no file of the others is intact in their folder of
    ``downloads`` and no address has one now.
    """
    known, folder = WEIGHTS[backbone], downloads / "imagenet"
    if "packaged" not in known or any(_is_kept(file, folder) for file in known["imagenet"]):
        return "imagenet"
    return "imagenet" if available(known["imagenet"], folder, mirror) else "packaged"


def _receive(items: Iterator[requests.Response | bytes], file: CatalogFile, partial: Path) -> None:
    """Write the body of a response into ``partial``, behind what is there if the server has resumed."""
    response = next(items)
    assert isinstance(response, requests.Response)
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        return  # nothing is missing: the digest decides
    if not response.ok:
        raise _rejection(response)
    resumed = response.status_code == requests.codes.partial_content
    with naming_full(partial), partial.open("ab" if resumed else "wb") as out:
        expected = int(response.headers.get("Content-Length", 0)) + out.tell()
        with progress_bar(f"downloading {file.name}", expected or file.size, "B") as advance:
            advance(out.tell())
            for block in items:
                assert isinstance(block, bytes)
                out.write(block)
                advance(len(block))
                if out.tell() > (file.size or MAX_UNKNOWN_BYTES):
                    return  # it is another file, and may be endless


def _download(address: str, file: CatalogFile, partial: Path) -> None:
    """Download what is missing from ``partial``, or all of it if the server cannot resume."""
    present = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={present}-"} if present else {}
    try:
        with closing(receive(address, headers, block_seconds=BLOCK_SECONDS, seconds=TOTAL_SECONDS)) as items:
            _receive(items, file, partial)
    except FAILURES as error:
        reason = f"{describe_failure(error)}; the next attempt resumes this download"
        raise DownloadError(reason, transient=True) from error


def _verify(path: Path, file: CatalogFile) -> None:
    size = path.stat().st_size
    if file.size not in (None, size):
        raise DownloadError(f"size mismatch: expected {file.size:,} bytes, received {size:,}")
    if file.size is None and size > MAX_UNKNOWN_BYTES:
        raise DownloadError(f"size mismatch: expected at most {MAX_UNKNOWN_BYTES:,} bytes, received more")
    digest = file_digest(path, file.algorithm)
    if digest != file.digest:
        expected, found = f"{file.digest[:12]}…", f"{digest[:12]}… ({size:,} bytes)"
        raise DownloadError(f"checksum mismatch: expected {file.algorithm} {expected}, found {found}")


def _copy_verified(source: Path, file: CatalogFile, target: Path) -> None:
    with atomic_file(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except PermissionError as error:
            raise DownloadError(describe_failure(error)) from error
        _verify(temporary, file)


def _download_verified(address: str, file: CatalogFile, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    resumed = partial.exists()
    _download(address, file, partial)
    try:
        _verify(partial, file)
    except DownloadError:
        partial.unlink()
        if not resumed:
            raise
        _download_verified(address, file, target)  # the old part may have been another file's: start again
    else:
        partial.replace(target)


def _fetch_from(address: str, file: CatalogFile, folder: Path) -> None:
    with locked(folder):
        if _is_downloaded(file, folder):
            return  # another process was faster
        if is_url(address):
            _download_verified(address, file, folder / file.name)
        else:
            _copy_verified(Path(address).expanduser(), file, folder / file.name)


def fetch(files: Sequence[CatalogFile], folder: Path, mirror: str | None, advice: str) -> Path:
    """Download or copy the first of ``files`` that is available into ``folder`` and verify it.

    Args:
        files: alternatives, in the order of preference.
        folder: where the file is kept; an intact file that is there already is used as it is.
        mirror: a folder or a URL that is tried before the catalog's addresses.
        advice: what the user can do when nothing is available, as a sentence; the error ends with it.

    Raises:
        UserError: no address has a file that passes verification; names each address that was tried and why it failed.
            A `TransientError` if one of them may have it later.
    """
    for file in files:
        if _is_downloaded(file, folder):
            return folder / file.name
    folder.mkdir(parents=True, exist_ok=True)
    results = probe(address for file in files for address in addresses(file, mirror))
    failures: dict[str, DownloadError] = {}
    for file in files:
        for address in addresses(file, mirror):
            try:
                if failure := results[address]:
                    raise failure
                _fetch_from(address, file, folder)
            except DownloadError as failure:
                logger.warning("%s: %s", address, failure)
                failures[address] = failure
            else:
                logger.info("%s: downloaded from %s and verified", file.name, address)
                return folder / file.name
    error = TransientError if any(failure.transient for failure in failures.values()) else UserError
    names = " or ".join(file.name for file in files)
    tried = "; ".join(f"{address} ({failure})" for address, failure in failures.items()) or "no address"
    raise error(f"{names} could not be downloaded: tried {tried}. {advice}")
