"""Text for the user's terminal: log messages on stderr, results on stdout."""

import logging
import os
import sys

from benexp.core.progress import AboveBars, above_bars

log = logging.getLogger("benexp")


def set_up_logging() -> None:
    """Send log messages of benexp to stderr, one line each."""
    handler = AboveBars(sys.stderr)
    handler.setFormatter(_Printable("benexp: %(levelname)s%(message)s"))
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.INFO)
    for level, words in ((logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: ")):
        logging.addLevelName(level, words)


class _Printable(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _printable(super().formatMessage(record))


def _printable(text: str) -> str:
    """The text with control characters, as in names of files, escaped as Python does: a terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def print_text(text: str) -> None:
    """Print to stdout, above progress bars, and ignore a reader that is gone (`benexp ... | head -1`)."""
    try:
        with above_bars():
            print("\n".join(map(_printable, text.split("\n"))), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
