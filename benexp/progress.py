"""Progress bars, on terminals."""

import os
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """A bar of tqdm; none where nobody looks on, nor with TQDM_DISABLE in the environment, as in processes of many."""
    return tqdm(items, disable=True if os.environ.get("TQDM_DISABLE") else None, **settings)
