"""Places: paths that people give, checked before any work."""

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from cnn.support.objects import is_address
from cnn.support.remote import local_path

#: The longest path and name of a model that are taken: both together are a key of Prefect's, of 512 characters at most.
LONGEST_PATH, LONGEST_NAME = 400, 100
_LONGEST_PART = 255  # bytes, as of every file system in use


def given_path(text: str | Path) -> Path:
    """A path that a person gave, in which ~ is the home of the user.

    Raises:
        ValueError: nothing can be at such a path, or it is too long.

    >>> given_path("")
    Traceback (most recent call last):
    ValueError: the path is empty: name a folder or a file; a dot is the present folder
    """
    if not str(text).strip():
        raise ValueError("the path is empty: name a folder or a file; a dot is the present folder")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        user = Path(text).parts[0]
        raise ValueError(f"there is no user {user} on this machine: write ./{user} for a folder of that name") from None
    if isinstance(text, str) and is_address(text):
        raise ValueError("object storage is not taken here: name a path on this machine")
    if "\0" in str(path):
        raise ValueError("no path holds a zero byte: name another")
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        encoding = sys.getfilesystemencoding()
        raise ValueError(f"it is not text in the encoding {encoding}: set PYTHONUTF8=1, or name a path that is")
    if any(len(part.encode()) > _LONGEST_PART for part in path.parts):
        raise ValueError(f"a name in the path is longer than {_LONGEST_PART} bytes: name another")
    if (length := len(str(path.absolute()))) > LONGEST_PATH:
        raise ValueError(f"the path is {length} characters long, {LONGEST_PATH} is the most: name a shorter one")
    return path


def given_place(text: str | Path) -> Path:
    """The path that stands for an address in object storage, or a path as `given_path` takes it, and raises.

    >>> given_place("s3://bucket/models").parts[-3:]
    ('s3:', 'bucket', 'models')
    """
    return given_path(local_path(text) if isinstance(text, str) and is_address(text) else text)


def _path(value: Any) -> Any:
    return given_path(value) if isinstance(value, str | Path) else value  # pydantic says what is wrong with the rest


def _place(value: Any) -> Any:
    return given_place(value) if isinstance(value, str | Path) else value


def _checked(text: str) -> str:
    if "://" not in text or is_address(text):
        given_place(text)
    return text


#: The path of a folder or a file, in which ~ is the user's home.
GivenPath = Annotated[Path, BeforeValidator(_path)]
#: The same, or an address in object storage, s3://, gs:// or az://, as the path that stands for it.
GivenPlace = Annotated[Path, BeforeValidator(_place)]
#: A name that is known, a path or a URL; it stays as it was given.
NameOrPath = Annotated[str, AfterValidator(_checked)]
