"""The one exception that a user's mistake, or the world's, ends in."""


class UserError(Exception):
    """A sentence for the user: what is wrong, what was expected, what was found, what to do next.

    Whoever catches it prints it without a traceback and exits with a non-zero status.
    """


class PassingError(UserError):
    """A `UserError` that may be over a while later, without anybody doing anything: it is worth trying again."""
