"""Bringing catalogued files here: mirror first, resumed where broken off, used only when the digest matches."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import requests

from cnn.catalog import CatalogFile
from cnn.errors import PassingError, UserError
from cnn.files import atomic_file, file_digest, locked
from cnn.progress import progress_bar

logger = logging.getLogger(__name__)

_CONNECT_SECONDS, _SILENCE_SECONDS = 5.0, 15.0
_PROBE_SECONDS = 10.0
_BLOCK = 1 << 18


class _Failed(Exception):
    """Why one address did not give the file, and whether it may give it later."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def _refused(response: requests.Response) -> _Failed:
    busy = response.status_code == requests.codes.too_many_requests
    return _Failed(f"HTTP {response.status_code}", passing=busy or response.status_code >= 500)


def is_url(address: str) -> bool:
    """Whether an address is one of the web and not a path."""
    return address.startswith(("http://", "https://"))


def addresses(file: CatalogFile, mirror: str | None) -> list[str]:
    """Where to ask for ``file``, in order: the mirror (a folder or a URL), then the catalog's addresses.

    >>> addresses(CatalogFile("a.zip", ("https://example.org/a.zip",), "sha1", "0"), "http://localhost:1/x/")
    ['http://localhost:1/x/a.zip', 'https://example.org/a.zip']
    """
    first = [f"{mirror.rstrip('/')}/{file.name}"] if mirror else []
    return first + list(file.addresses)


def is_here(file: CatalogFile, folder: Path) -> bool:
    """Whether ``folder`` holds the file with the catalog's digest."""
    path = folder / file.name
    return path.is_file() and file_digest(path, file.algorithm) == file.digest


def why_failed(error: OSError) -> str:
    """The end of a sentence: why a file or an address could not be read."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    return error.strerror or str(error)


def _answer(address: str) -> _Failed | None:
    """Why an address will not give its file, or None if it looks as if it would."""
    if not is_url(address):
        return None if Path(address).expanduser().is_file() else _Failed("no such file")
    try:
        with requests.get(address, stream=True, timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS)) as response:
            return None if response.ok else _refused(response)
    except requests.RequestException as error:
        return _Failed(why_failed(error), passing=True)


def probe(candidates: Iterable[str]) -> dict[str, _Failed | None]:
    """Ask all addresses at once whether they answer: address → None, or why not. Takes 10 s at most.

    >>> probe(["/no/such/file"])
    {'/no/such/file': _Failed('no such file')}
    """
    silence = _Failed(f"no answer within {_PROBE_SECONDS:.0f} s", passing=True)
    answers: dict[str, _Failed | None] = dict.fromkeys(candidates, silence)
    threads = [
        # daemon threads: a name look-up that hangs must not keep the process from ending
        threading.Thread(target=lambda a=address: answers.__setitem__(a, _answer(a)), daemon=True)
        for address in answers
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def available(files: Sequence[CatalogFile], folder: Path, mirror: str | None) -> list[CatalogFile]:
    """Those of ``files`` that are in ``folder`` already or for which some address answers now."""
    here = [file for file in files if is_here(file, folder)]
    answers = probe(address for file in files if file not in here for address in addresses(file, mirror))
    return [file for file in files if file in here or None in map(answers.get, addresses(file, mirror))]


def _receive(response: requests.Response, file: CatalogFile, partial: Path, advance: Callable[[int], None]) -> None:
    resumed = response.status_code == requests.codes.partial_content
    with partial.open("ab" if resumed else "wb") as out:
        advance(out.tell())
        for block in response.iter_content(_BLOCK):
            out.write(block)
            advance(len(block))
            if file.size and out.tell() > file.size:
                return  # it is another file, and may have no end


def _download(address: str, file: CatalogFile, partial: Path) -> None:
    """Bring the rest of ``partial`` from an address, from its start if the server does not resume."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    timeout = (_CONNECT_SECONDS, _SILENCE_SECONDS)
    try:
        with requests.get(address, stream=True, headers=headers, timeout=timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is missing: the digest decides
            if not response.ok:
                raise _refused(response)
            expected = int(response.headers.get("Content-Length", 0)) + have
            with progress_bar(f"downloading {file.name}", expected or file.size, "B") as advance:
                _receive(response, file, partial, advance)
    except requests.RequestException as error:
        raise _Failed(f"{why_failed(error)}; what has come is kept and resumed", passing=True) from error


def _bring(address: str, file: CatalogFile, target: Path) -> None:
    """Put the verified file at ``target``, from a folder or a URL."""
    if not is_url(address):
        with atomic_file(target) as temporary:
            try:
                shutil.copyfile(Path(address).expanduser(), temporary)
            except PermissionError as error:
                raise _Failed(why_failed(error)) from error
            _verify(temporary, file)
        return
    partial = target.with_name(f".{target.name}.partial")
    resumed = partial.exists()
    _download(address, file, partial)
    try:
        _verify(partial, file)
    except _Failed:
        partial.unlink()
        if not resumed:
            raise
        _bring(address, file, target)  # the kept part may have been another file's: once more, from the start
        return
    partial.replace(target)


def _verify(path: Path, file: CatalogFile) -> None:
    size = path.stat().st_size
    if file.size not in (None, size):
        raise _Failed(f"{size:,} bytes came and not {file.size:,}")
    found = file_digest(path, file.algorithm)
    if found != file.digest:
        raise _Failed(f"{file.algorithm} is {found[:12]}… and not {file.digest[:12]}…, {size:,} bytes came")


def obtain(files: Sequence[CatalogFile], folder: Path, mirror: str | None, instead: str) -> Path:
    """Bring the first of ``files`` that can be had into ``folder`` and verify it.

    Args:
        files: alternatives, in the order of preference.
        folder: where they are kept; a file that is there and intact is not downloaded again.
        mirror: a folder or a URL that is asked before the catalog's addresses.
        instead: what the user can do when nothing can be had; the end of the error's sentence.

    Raises:
        UserError: none can be had; names every address that was tried, and why it failed. A `PassingError` if one
            of them may give it later.
    """
    for file in files:
        if is_here(file, folder):
            return folder / file.name
    folder.mkdir(parents=True, exist_ok=True)
    answers = probe(address for file in files for address in addresses(file, mirror))
    tried: dict[str, _Failed] = {}
    for file in files:
        for address in addresses(file, mirror):
            try:
                if failure := answers[address]:
                    raise failure
                with locked(folder):
                    if not is_here(file, folder):  # another run may have brought it meanwhile
                        _bring(address, file, folder / file.name)
            except _Failed as failure:
                logger.warning("%s: %s", address, failure)
                tried[address] = failure
            else:
                logger.info("%s: brought from %s and verified", file.name, address)
                return folder / file.name
    names = " or ".join(file.name for file in files)
    told = "; ".join(f"{address} ({failure})" for address, failure in tried.items())
    error = PassingError if any(failure.passing for failure in tried.values()) else UserError
    raise error(f"{names} cannot be had: tried {told or 'nothing'}. {instead}")
