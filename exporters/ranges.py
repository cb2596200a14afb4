"""The patches that int8 quantisation measures the ranges of activations on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RangePatches:
    """Real patches, read when they are needed."""

    key: str
    """Stands for the patches: an artefact with ranges from others is another."""
    source: str
    """In words, for records, as far as it is known without reading: `up to 256 patches of T33UUP`."""
    read: Callable[[], npt.NDArray[np.float32]]
    """Gives patches [n, bands, p, p] in model DN."""
