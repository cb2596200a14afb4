"""Progress bars, on terminals, and text that is to stand above them."""

import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

# Its own lock is for bars of several processes, and leaves a semaphore behind in each that is killed.
tqdm.set_lock(threading.RLock())


def progress(items: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """A bar of tqdm; none where nobody looks on, nor with TQDM_DISABLE in the environment, as in processes of many."""
    # A bar below another goes when it is full.
    return tqdm(items, disable=True if os.environ.get("TQDM_DISABLE") else None, leave=None, **settings)


def above_bars() -> AbstractContextManager[None]:
    """What is printed meanwhile stands above the bars, which are drawn anew."""
    return tqdm.external_write_mode(sys.stderr)


class AboveBars(logging.StreamHandler[Any]):
    """Writes messages above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_bars():
            super().emit(record)
