"""The exceptions that carry a message for the user."""


class BenexpError(Exception):
    """An error that the user can mend: the message names the file, key or class, and the remedy.

    The command line prints it as one line and exits with 1; Python callers catch this type.
    """


class OutOfMemoryError(BenexpError):
    """The engine had no memory for a batch."""


def one_line(error: BaseException) -> str:
    """An exception's type and message as one line, to quote in a message for the user."""
    return " ".join(f"{type(error).__name__}: {error}".split())
