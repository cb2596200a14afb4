"""From one probability vector per patch to one per pixel: window weights and the separable blend.

With per-axis weights w, pixel (y, x) of class c is

    sum_ij Wy[y,i] P[i,j,c] Wx[x,j]  /  sum_ij Wy[y,i] V[i,j] Wx[x,j]

so a block of pixels costs two small matrix products, and patches never have to be spread over pixels one by one.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benexp.core.window import Window
from benexp.mapping.grid import CLASSIFIED, ProbabilityGrid, reaching

# Each is a function of the distance from the patch's centre, from -1 to 1 at its edges.
WINDOWS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "sin2": lambda t: np.cos(np.pi / 2 * t) ** 2,
    "gaussian": lambda t: np.exp(-0.5 * (t / 0.5) ** 2),
    "flat": np.ones_like,
}


def window_weights(patch_size: int, shape: str) -> npt.NDArray[np.float64]:
    """The weights [patch_size] along one axis of a patch, sampled at half pixels, so that none is zero.

    >>> window_weights(2, "sin2").round(3).tolist()
    [0.5, 0.5]
    """
    centres = (np.arange(patch_size) + 0.5) / patch_size
    return WINDOWS[shape](2 * centres - 1)


def axis_weights(
    origins: npt.NDArray[np.int64], window: npt.NDArray[np.float64], start: int, stop: int
) -> tuple[slice, npt.NDArray[np.float32]]:
    """The patches that reach into pixels [start, stop) of an axis, and their weights [stop - start, patches] there."""
    size = len(window)
    reach = reaching(origins, size, start, stop)
    offsets = np.arange(start, stop)[:, None] - origins[None, reach]
    inside = (offsets >= 0) & (offsets < size)
    return reach, np.where(inside, window[np.clip(offsets, 0, size - 1)], 0).astype(np.float32)


def blend(
    grid: ProbabilityGrid, window: npt.NDArray[np.float64], block: Window
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Class probabilities [classes, h, w] of a block of the tile's pixels, and where they mean something [h, w].

    A pixel means something if it is valid and a classified patch covers it; elsewhere the probabilities are 0 or stale.
    `window` are the weights along one axis of a patch.
    """
    rows, weights_y = axis_weights(grid.patches.rows, window, block.row, block.row + block.height)
    cols, weights_x = axis_weights(grid.patches.cols, window, block.col, block.col + block.width)
    probabilities = grid.probabilities[rows, cols]
    classified = (grid.patch_states[rows, cols] == CLASSIFIED).astype(np.float32)

    denominator = weights_y @ classified @ weights_x.T
    covered = denominator > 0
    # A product per class, all of one shape: classes that are equal everywhere stay equal to the last bit, and tie.
    along_y = weights_y @ np.ascontiguousarray(probabilities.transpose(2, 0, 1))
    # Dividing needs the whole block at every class; multiplying once by the inverse is a fifth of that.
    inverse = np.divide(1, denominator, out=np.zeros_like(denominator), where=covered)
    blended = along_y @ weights_x.T
    blended *= inverse
    return blended, covered & grid.valid(block)
