"""Plausibility of pixels and answers: checks that need no reference."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError
from benexp.mapping.grid import ProbabilityGrid

STEP = 3
"""The step between the rows, and between the columns, that are looked at."""
ENOUGH = 1000
"""Pixels below which nothing is said."""
OFFSET = 1000
"""DN that products since baseline 04.00 add to their reflectances."""
_BIN = 10
"""DN that are counted as one."""
_BINS = 200
"""Bins there are; the last one takes all that is brighter, too."""
_HEAD = 5
"""Numbers that a tally has before its bins."""
FEW = 0.001
"""The share of pixels that may be darker than the offset alone, where it was left in."""
GAPS = 0.05
"""The share of the pixels of other bands that a band may lack: bands end a little apart at the edge of a swath."""
HARDLY = 0.01
"""The share of patches below which it is said why so few were classified."""


def tally(pixels: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A summary of a window of model DN [bands, h, w], 0 where a band has no data, and of its `valid` pixels [h, w].

    [bands, n]: the lowest and the highest; how many pixels were looked at, in how many of them any band has data, and
    in how many of those this one has none; then how many pixels are in each bin.
    """
    looked = pixels[:, ::STEP, ::STEP]
    seen = looked[:, valid[::STEP, ::STEP]]
    made = np.zeros((len(pixels), _HEAD + _BINS), np.int64)
    made[:, 0] = seen.min(1, initial=np.iinfo(np.uint16).max)
    made[:, 1] = seen.max(1, initial=0)
    some = looked.any(0)
    made[:, 2], made[:, 3] = some.size, some.sum()
    made[:, 4] = made[:, 3] - np.count_nonzero(looked, axis=(1, 2))
    for counts, values in zip(made[:, _HEAD:], seen, strict=True):
        counts += np.bincount(np.minimum(values // _BIN, _BINS - 1), minlength=_BINS)
    return made


class Content:
    """The content of a tile's bands: the sum of its chunks' tallies."""

    def __init__(self, bands: Sequence[str]) -> None:
        self._bands = tuple(bands)
        self._counts = np.zeros((len(self._bands), _BINS), np.int64)
        self._low = np.full(len(self._bands), np.iinfo(np.uint16).max)
        self._high = np.zeros(len(self._bands), np.int64)
        self._looked = self._some = 0
        self._lacks = np.zeros(len(self._bands), np.int64)

    def add(self, tally: npt.NDArray[np.int64]) -> None:
        """Take in a tally of the same bands."""
        self._low = np.minimum(self._low, tally[:, 0])
        self._high = np.maximum(self._high, tally[:, 1])
        self._looked += int(tally[0, 2])
        self._some += int(tally[0, 3])
        self._lacks += tally[:, 4]
        self._counts += tally[:, _HEAD:]

    def check(self, grid: ProbabilityGrid) -> None:
        """Raise BenexpError where no patch of the grid was classified and a band without data is why."""
        missing = self._missing(0.5)
        if missing and not grid.classified.any():
            raise BenexpError(f"no patch can be classified: {_told(missing)}: see whether the file is right")

    def gaps(self, grid: ProbabilityGrid) -> list[str]:
        """Reasons why parts of the grid were not classified, a sentence each, apart from the edge of the data."""
        missing = self._missing(GAPS)
        found = [f"{_told(missing)} and get no class: see whether the file is right"] if missing else []
        done, count = int(grid.classified.sum()), grid.classified.size
        if done < HARDLY * count:
            data, usable = (100 * number / self._looked for number in (self._some, int(self._counts[0].sum())))
            found.append(
                f"{done} of {count} patches are classified: {data:.3g} % of the pixels have data, {usable:.3g} % in "
                f"all bands and not masked (chunking.min_valid is how much of a patch must be)"
            )
        return found

    def _missing(self, share: float) -> list[tuple[str, float]]:
        """Bands that lack more than this share of the pixels that any band has, and what they lack."""
        if self._some < ENOUGH:
            return []
        lacks = self._lacks / self._some
        return [(band, float(part)) for band, part in zip(self._bands, lacks, strict=True) if part > share]

    def warnings(self, offsets: Mapping[str, int]) -> list[str]:
        """Implausible content, a sentence each; `offsets` by band are those that were applied."""
        total = int(self._counts[0].sum())
        if total < ENOUGH:
            return []
        found = [
            f"{band} is {low} in every pixel that was looked at: see whether its file is right"
            for band, low, high in zip(self._bands, self._low, self._high, strict=True)
            if low == high
        ]
        if not any(offsets.values()) and not found:
            below = self._counts[:, : (OFFSET - 50) // _BIN].sum(1) / total
            darkest = int(np.argmin((np.cumsum(self._counts, 1) < 0.01 * total).sum(1)))
            dark = _BIN * int((np.cumsum(self._counts[darkest]) < 0.01 * total).sum())
            if (below < FEW).all() and dark < OFFSET + 400:
                found.append(
                    f"hardly a pixel is darker than {OFFSET} (the darkest hundredth of {self._bands[darkest]} ends at "
                    f"{dark}), and no offset was applied: if these are products since January 2022, set offset=-1000"
                )
        return found


def _told(missing: Sequence[tuple[str, float]]) -> str:
    parts = ", ".join(f"{band} ({100 * share:.0f} %)" for band, share in missing)
    return f"pixels that other bands have are nodata in {parts}"


def check_answers(grid: ProbabilityGrid, what: str) -> None:
    """Raise BenexpError where a model, called `what`, says the same of every one of many patches."""
    answers = grid.probabilities[grid.classified]
    if len(answers) >= 16 and (answers == answers[0]).all():
        raise BenexpError(
            f"{what} answers the same for all {len(answers)} patches, whatever they show: its weights or its file are "
            f"damaged, or it is no model for this input"
        )
