"""Plausibility of pixels and answers: checks that need no reference."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError
from benexp.mapping.grid import NOT_ASKED, ProbabilityGrid
from benexp.products.offsets import OffsetDecision

NO_DATA = "there is no data: all pixels are nodata, or outside the bands: give another region or tile"
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
_HEAD = 6
"""Numbers that a tally has before its bins."""
FEW = 0.001
"""The share of pixels that may be darker than the offset alone, where it was left in."""
DARK = 400
"""DN above the offset at which the darkest hundredth of a band ends at most, unless the whole scene is bright."""
CLIPPED = 0.02
"""The share of a band's pixels that may be 0 or less after the offset: some water and shadows are."""
GAPS = 0.05
"""The share of the pixels of other bands that a band may lack: bands end a little apart at the edge of a swath."""
HARDLY = 0.01
"""The share of patches below which it is said why so few were classified."""


def tally(pixels: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A summary of a window of model DN [bands, h, w], 0 where a band has no data, and of its `valid` pixels [h, w].

    [bands, n]: the lowest and the highest; how many pixels were looked at, in how many of them any band has data, and
    in how many of those this one has none; how many are 1, to which DN of 0 and less are clipped; then how many pixels
    are in each bin.
    """
    looked = pixels[:, ::STEP, ::STEP]
    seen = looked[:, valid[::STEP, ::STEP]]
    made = np.zeros((len(pixels), _HEAD + _BINS), np.int64)
    made[:, 0] = seen.min(1, initial=np.iinfo(np.uint16).max)
    made[:, 1] = seen.max(1, initial=0)
    some = looked.any(0)
    made[:, 2], made[:, 3] = some.size, some.sum()
    made[:, 4] = made[:, 3] - np.count_nonzero(looked, axis=(1, 2))
    made[:, 5] = np.count_nonzero(seen == 1, axis=1)
    for counts, values in zip(made[:, _HEAD:], seen, strict=True):
        counts += np.bincount(np.minimum(values // _BIN, _BINS - 1), minlength=_BINS)
    return made


class Content:
    """The content of a tile's bands, by the tally of the pixels read."""

    def __init__(self, bands: Sequence[str], tally: npt.NDArray[np.int64]) -> None:
        self._bands = tuple(bands)
        self._low, self._high, looked, some, self._lacks, self._ones = tally[:, :_HEAD].T
        self._looked, self._some = int(looked[0]), int(some[0])
        self._counts = tally[:, _HEAD:]

    def check(self, classified: npt.NDArray[np.bool_]) -> None:
        """Raise BenexpError where no patch was `classified`, for want of data in a band or in all of them."""
        if classified.any():
            return
        if not self._some:
            raise BenexpError(NO_DATA)
        if missing := self._missing(0.5):
            raise BenexpError(f"no patch can be classified: {_told(missing)}: see whether the file is right")

    def gaps(self, grid: ProbabilityGrid) -> list[str]:
        """Reasons why parts of the grid were not classified, a sentence each, apart from the edge of the data."""
        missing = self._missing(GAPS)
        found = [f"{_told(missing)} and get no class: see whether the file is right"] if missing else []
        done, count = int(grid.classified.sum()), int((grid.patch_states != NOT_ASKED).sum())
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

    def warnings(self, decision: OffsetDecision) -> list[str]:
        """Implausible content, a sentence each, once the offsets of `decision` were applied."""
        total = int(self._counts[0].sum())
        if total < ENOUGH:
            return []
        found = [
            f"{band} is {low} in every pixel that was looked at: see whether its file is right"
            for band, low, high in zip(self._bands, self._low, self._high, strict=True)
            if low == high
        ]
        if not any(decision.offsets.values()) and not found:
            found += self._left_in(total, decision)
        shares = self._ones / total
        clipped = [
            f"{band} ({100 * share:.0f} %)"
            for band, share in zip(self._bands, shares, strict=True)
            if share > CLIPPED and decision.offsets.get(band, 0) < 0
        ]
        if clipped:
            found.append(
                f"pixels are 0 or less after the offset, and set to 1, in {', '.join(clipped)}: unless they "
                f"are water or shadows, the files do not have the offset any more ({decision.source})"
            )
        return found

    def _left_in(self, total: int, decision: OffsetDecision) -> list[str]:
        """A warning where the pixels look as if an offset was left in.

        Scenes of clouds and snow can look like that without one: they are warned about unless the product's own
        metadata state that there is none.
        """
        below = self._counts[:, : (OFFSET - 50) // _BIN].sum(1) / total
        darkest = int(np.argmin((np.cumsum(self._counts, 1) < 0.01 * total).sum(1)))
        end = int((np.cumsum(self._counts[darkest]) < 0.01 * total).sum())
        bright = _BIN * end >= OFFSET + DARK
        if (below >= FEW).any() or (bright and decision.stated_by_metadata):
            return []
        where = f"ends at {_BIN * end}" if end < _BINS - 1 else f"is brighter than {_BIN * end}"
        return [
            f"hardly a pixel is darker than {OFFSET} (the darkest hundredth of {self._bands[darkest]} {where}), and no "
            f"offset was applied ({decision.source}): unless these are "
            f"{'clouds or snow' if bright else 'products from before 2022'}, set offset=-1000"
        ]


def _told(missing: Sequence[tuple[str, float]]) -> str:
    parts = ", ".join(f"{band} ({100 * share:.0f} %)" for band, share in missing)
    return f"pixels that other bands have are nodata or saturated in {parts}"


def check_answers(grid: ProbabilityGrid, what: str) -> None:
    """Raise BenexpError where a model, called `what`, says the same of every one of many patches."""
    answers = grid.probabilities[grid.classified]
    if len(answers) >= 16 and (answers == answers[0]).all():
        raise BenexpError(
            f"{what} answers the same for all {len(answers)} patches, whatever they show: its weights or its file are "
            f"damaged, or it is no model for this input"
        )
