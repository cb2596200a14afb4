"""Patches cut out of a chunk on the CPU, with numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def cut(
    chunk: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    origins: npt.NDArray[np.int64],
    means: Sequence[float],
    memory: npt.NDArray[np.float32],
) -> None:
    """Put the patches of a chunk [bands, h, w] at `origins` [n, 2] into the first n places of `memory`.

    `memory` is [at least n, bands, p, p]. Pixels that are not `valid` [h, w] become the mean of their band.
    """
    size = memory.shape[-1]
    fill = np.asarray(means, np.float32)[:, None, None]
    all_valid = bool(valid.all())
    for patch, (row, col) in zip(memory, origins, strict=False):
        patch[:] = chunk[:, row : row + size, col : col + size]
        if not all_valid:
            np.copyto(patch, fill, where=~valid[row : row + size, col : col + size])
