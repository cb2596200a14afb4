"""Progress bars on terminals, and text above them."""

import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

# tqdm's own lock serves bars of several processes, and leaks a semaphore in each that is killed.
tqdm.set_lock(threading.RLock())


def progress(items: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """A bar of tqdm; none without a terminal, nor with TQDM_DISABLE in the environment, as in worker processes."""
    # A bar below another one disappears when it is full.
    return tqdm(items, disable=True if os.environ.get("TQDM_DISABLE") else None, leave=None, **settings)


def above_bars() -> AbstractContextManager[None]:
    """Text that is printed in the block appears above the bars, which are redrawn."""
    return tqdm.external_write_mode(sys.stderr)


class AboveBars(logging.StreamHandler[Any]):
    """Writes log messages above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_bars():
            super().emit(record)
