"""Command lines: a user's mistake is one sentence, and not a traceback."""

import io
import sys
from collections.abc import Callable
from typing import Any

from cnn.support.errors import UserError, plain_errors


def run(main: Callable[[], Any]) -> None:
    """Run ``main``; end with one sentence and status 1 on a mistake of the user or a lack of the system, 130 on Ctrl-C.

    Characters that the terminal's encoding lacks are written as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with plain_errors():
            main()
            sys.stdout.flush()  # while it can still be said that it cannot be written
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has gone; without this, Python complains at its end
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
