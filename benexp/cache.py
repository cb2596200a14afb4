"""Where benexp keeps what it made once and can make again: random weights and exported models."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$BENEXP_CACHE_DIR`, else `$XDG_CACHE_HOME/benexp`, else `~/.cache/benexp`; it may not exist yet."""
    if own := os.environ.get("BENEXP_CACHE_DIR"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "benexp"
    return Path.home() / ".cache" / "benexp"
