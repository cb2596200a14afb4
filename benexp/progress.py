"""Progress bars, on terminals."""

import os
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Its own lock is for bars of several processes, and leaves a semaphore behind in each that is killed.
tqdm.set_lock(threading.RLock())


def progress(items: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """A bar of tqdm; none where nobody looks on, nor with TQDM_DISABLE in the environment, as in processes of many."""
    return tqdm(items, disable=True if os.environ.get("TQDM_DISABLE") else None, **settings)
