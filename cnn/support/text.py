"""Text from outside, such as a file's name, made fit to be shown."""

import re

#: Control characters, ends of lines and paragraphs, marks that turn the direction of writing, bytes that are no text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffd]")
#: Surrogates that do not stand for the bytes of a name.
_NOT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def printable(name: str) -> str:
    """A file's name as text that can be written anywhere, in one line and without an effect on a terminal.

    Bytes that are UTF-8 are read so, whatever the locale. Other bytes, control characters, line ends and what turns the
    direction of writing become question marks.

    >>> printable("caf\\udce9\\x1b[31m.jpg"), printable("caf\\udcc3\\udca9.jpg")
    ('caf??[31m.jpg', 'café.jpg')
    """
    data = _NOT_BYTES.sub("?", name).encode(errors="surrogateescape")
    return _UNPRINTABLE.sub("?", data.decode(errors="replace"))
