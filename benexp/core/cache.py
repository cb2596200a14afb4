"""The cache folder, for files that can be made again: random weights and exported models."""

import contextlib
import os
import shutil
import time
from pathlib import Path

SCRATCH = ".export-"
"""The prefix of folders in which files of the cache are made."""
_DAY = 24 * 60 * 60


def cache_folder() -> Path:
    """`$BENEXP_CACHE_DIR`, else `$XDG_CACHE_HOME/benexp`, else `~/.cache/benexp`; it may not exist yet."""
    if own := os.environ.get("BENEXP_CACHE_DIR"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "benexp"
    return Path.home() / ".cache" / "benexp"


def remove_scratch(folder: Path) -> None:
    """Remove scratch folders older than a day from `folder`: killed processes have left them."""
    for left in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(FileNotFoundError):  # its owner is done with it
            if left.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(left, ignore_errors=True)
