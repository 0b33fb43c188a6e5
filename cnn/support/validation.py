"""Errors of pydantic in words."""

from collections.abc import Callable

from pydantic import ValidationError


def describe_validation(error: ValidationError, title: Callable[[str], str] = str) -> str:
    """Pydantic's error as ``SETTING VALUE: what is wrong with it`` for each setting, in pydantic's own words.

    ``title`` maps a setting's name to what the user knows it by.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(int).validate_python("many")
    ... except ValidationError as error:
    ...     describe_validation(error)
    'Input should be a valid integer, unable to parse string as an integer'
    """
    sentences: dict[tuple[str, ...], str] = {}
    for problem in error.errors():
        names = tuple(title(part) for part in problem["loc"] if isinstance(part, str))
        message = problem["msg"].removeprefix("Value error, ")
        sentences[names] = f"{'.'.join(names)} {problem['input']}: {message}" if names else message
    return "; ".join(sentences.values())
