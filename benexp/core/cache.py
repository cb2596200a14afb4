"""Where benexp keeps what it made once and can make again: random weights and exported models."""

import contextlib
import os
import shutil
import time
from pathlib import Path

SCRATCH = ".export-"
"""Names of folders in which files of the cache are made begin so."""
_DAY = 24 * 60 * 60


def cache_folder() -> Path:
    """`$BENEXP_CACHE_DIR`, else `$XDG_CACHE_HOME/benexp`, else `~/.cache/benexp`; it may not exist yet."""
    if own := os.environ.get("BENEXP_CACHE_DIR"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "benexp"
    return Path.home() / ".cache" / "benexp"


def sweep(folder: Path) -> None:
    """Remove the scratch folders that processes which were killed have left in `folder`: those older than a day."""
    for left in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(FileNotFoundError):  # its owner is done with it
            if left.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(left, ignore_errors=True)
