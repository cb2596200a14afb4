"""The checkpoint of random weights in the cache, built where it is not there yet. No torch once it is."""

import hashlib
import tempfile
from pathlib import Path

from benexp.core.cache import SCRATCH, cache_folder, remove_scratch
from benexp.core.classes import CLASSES
from benexp.core.errors import BenexpError
from benexp.core.files import sync
from benexp.version import __version__

RECIPE = 1
"""Counts changes of what `untrained.py` does to a network, so that no older result is taken for it."""


def random_checkpoint(architecture: str, bands: tuple[str, ...], seed: int) -> Path:
    """A folder in the published format; the same weights for the same arguments.

    Raises BenexpError where it has to be built and torch is not installed.
    """
    digest = hashlib.sha256(" ".join(bands).encode()).hexdigest()[:8]
    folder = cache_folder() / "random" / f"{architecture}-{digest}-seed{seed}-{__version__}.{RECIPE}"
    if folder.is_dir():
        return folder
    try:
        from benexp.models.checkpoint import save_checkpoint
        from benexp.models.untrained import lively_network
    except ImportError as error:
        raise BenexpError(f"model.weights=random needs {error.name}: pip install 'benexp[torch]'") from error
    network = lively_network(architecture, bands, len(CLASSES), seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_scratch(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=SCRATCH) as scratch:
        made = Path(scratch) / "checkpoint"
        save_checkpoint(made, network, architecture, len(bands))
        for file in made.iterdir():
            sync(file)
        try:
            made.rename(folder)
        except OSError:
            # Another process was faster: its folder is as good.
            if not folder.is_dir():
                raise
    return folder
