"""The places and sizes of differences between two maps of one tile.

Both maps are blended block by block and never exist as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benexp.core.classes import NODATA
from benexp.core.window import Window
from benexp.mapping import layers, pipeline
from benexp.mapping.blending import blend, window_weights
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.layers import Format

SAME, TIE, BEYOND = range(3)
FLIPS = Format(
    "flips",
    "uint8",
    NODATA,
    "Whether the class differs from the reference map's: 0 no, 1 only where the reference's two best classes are a "
    "tie, 2 beyond a tie",
    # Single pixels would not outlive a majority; of those that are sampled the eye learns how many there are.
    "nearest",
    categories=(
        ("same class", "#f0f0f0"),
        ("differs where the reference's two best are a tie", "#1f5fd0"),
        ("differs beyond a tie", "#d0021b"),
    ),
)
"""The format of a map of differences."""

_SHIFT = 16
"""Bits of a float32 that the histogram drops, so that its bins are 1/128 of their value wide."""
_BINS = 1 << (31 - _SHIFT)


@dataclass
class Differences:
    """The differences of a candidate's map from the reference's, over the pixels that are valid in both.

    A pixel *flips* if its class differs. It is a *tie* if the reference's two best probabilities differ by at most
    `tolerance`. A pixel's probability difference is the largest one of any class.
    """

    tolerance: float
    pixels: int
    """The number of pixels that are valid in both maps."""
    flips: npt.NDArray[np.int64]
    """[classes, classes]: pixels by the reference's class and the candidate's, 0 where these are the same."""
    ties: int
    """The number of flips that are ties."""
    marks: npt.NDArray[np.int64]
    """[2, h, w]: flips that are ties and that are not, in each cell of the reduced map (see pipeline.Rendered)."""
    prob_diff_max: float
    prob_diff_mean: float
    prob_diff_p99: float
    """The 99th percentile of the pixels' probability differences, with an error below 1 %."""

    @classmethod
    def none(cls, classes: int, pixels: int) -> "Differences":
        """Those of a map from itself."""
        return cls(0.0, pixels, np.zeros((classes, classes), np.int64), 0, np.zeros((2, 0, 0), np.int64), 0.0, 0.0, 0.0)

    @property
    def flips_per_million(self) -> float:
        return self._per_million(int(self.flips.sum()))

    @property
    def beyond_ties_per_million(self) -> float:
        return self._per_million(int(self.flips.sum()) - self.ties)

    def _per_million(self, count: int) -> float:
        return 1e6 * count / self.pixels if self.pixels else 0.0


class _Block(NamedTuple):
    """The contribution of one block."""

    flips_map: npt.NDArray[np.uint8]
    flips: npt.NDArray[np.int64]
    pixels: int
    histogram: npt.NDArray[np.int64]
    total: float
    largest: float


def differences(
    reference: ProbabilityGrid,
    candidate: ProbabilityGrid,
    area: Window,
    *,
    blend_shape: str,
    tolerance: float,
    threads: int,
    take: Callable[[npt.NDArray[np.uint8], Window], object],
    thumbnail_size: int = pipeline.THUMBNAIL,
) -> Differences:
    """Compare an area of the maps of two grids of one tile; `take` gets the values of FLIPS [h, w] block by block.

    Memory holds a few blocks of both maps, whatever the tile's size.
    """
    touching = reference.patches.touching(area)
    same_patches = np.array_equal(reference.patch_states[touching], candidate.patch_states[touching])
    if not (same_patches and np.array_equal(reference.valid(area), candidate.valid(area))):
        raise ValueError("the grids are of different tiles")
    shape = area.shape
    classes = reference.probabilities.shape[-1]
    window = window_weights(reference.patches.patch_size, blend_shape)

    def work(block: Window) -> _Block:
        inside = block.intersection(area).relative_to(block).slices
        before, valid = blend(reference, window, block)
        after, _ = blend(candidate, window, block)
        return _compare(before[:, *inside], np.ascontiguousarray(after[:, *inside]), valid[inside], tolerance)

    step = pipeline.thumbnail_step(shape, thumbnail_size)
    marks = np.zeros((2, -(-shape[0] // step), -(-shape[1] // step)), np.int64)
    flips = np.zeros((classes, classes), np.int64)
    histogram = np.zeros(_BINS, np.int64)
    pixels, total, largest = 0, 0.0, 0.0
    with pipeline.blockwise(reference.patches.tile_shape, area, work, threads, "compare") as results:
        for whole, found in results:
            block = whole.intersection(area).relative_to(area)
            take(found.flips_map, block)
            for mark, kind in zip(marks, (TIE, BEYOND), strict=True):
                rows, cols = np.nonzero(found.flips_map == kind)
                np.add.at(mark, ((rows + block.row) // step, (cols + block.col) // step), 1)
            flips += found.flips
            histogram += found.histogram
            pixels += found.pixels
            total += found.total
            largest = max(largest, found.largest)
    return Differences(
        tolerance=tolerance,
        pixels=pixels,
        flips=flips,
        ties=int(marks[0].sum()),
        marks=marks,
        prob_diff_max=largest,
        prob_diff_mean=total / pixels if pixels else 0.0,
        prob_diff_p99=min(_quantile(histogram, 0.99), largest),
    )


def _compare(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], tolerance: float
) -> _Block:
    """Two blocks of probabilities [classes, h, w]; overwrites `after`."""
    classes = len(before)
    old, new = layers.class_ids(before, ()), layers.class_ids(after, ())
    flipped = valid & (old != new)
    flips_map = np.where(valid, np.uint8(SAME), np.uint8(NODATA))
    flips_map[flipped] = np.where(layers.gap(before[:, flipped], ()) > np.float32(tolerance), BEYOND, TIE)
    pairs = old[flipped].astype(np.int64) * classes + new[flipped]
    np.subtract(before, after, out=after)
    np.abs(after, out=after)
    difference = after.max(axis=0)[valid]
    return _Block(
        flips_map,
        np.bincount(pairs, minlength=classes**2).reshape(classes, classes),
        difference.size,
        # The bits of floats from 0 are in the order of their values.
        np.bincount(difference.view(np.uint32) >> _SHIFT, minlength=_BINS),
        float(difference.sum(dtype=np.float64)),
        float(difference.max(initial=0.0)),
    )


def _quantile(histogram: npt.NDArray[np.int64], share: float) -> float:
    """The middle of the first bin that, with those before it, holds this share of the pixels."""
    found = int(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))
    middle = np.array([(found << _SHIFT) + (1 << (_SHIFT - 1))], np.uint32)
    return float(middle.view(np.float32)[0]) if found else 0.0
