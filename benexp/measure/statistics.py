"""Statistics of repeated times: medians with intervals, ratios of speed between configurations, and spread.

Times are positive, and disturbances multiply them, so everything is computed on their logarithms. From six samples on,
the interval of a median is a bootstrap's. With fewer, no resampling reaches 95 % (five agree by chance in one of 16
cases), and the interval is Student's, which two samples of one configuration, interchangeable within a repeat, never
make too narrow.

The number of repeats needed where runs vary by 2 % (simulated, see the tests): 15 find a difference of 5 % in 97 of 100
experiments, or in 86 where every tenth run is some 30 % late; 10 find it in 92, or in 67. A difference of 10 % takes 4
(97, or 53), one of 25 % takes 3 (100, or 68). Between a configuration and itself, a difference is found in at most 4 of
100. A finding of no difference takes repeats, too: 3 lead to it in 69 of 100 experiments (or in 38), 6 in 99 (or 38),
15 in 99 (or 95).
"""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from benexp.records.figures import Interval

CONFIDENCE = 0.95
RECOMMENDED_REPEATS = 15
"""Enough to find a difference of 5 %."""
NEGLIGIBLE = 0.005
"""The interval of a ratio has to stay this far from 1: the order of the runs within a repeat alone shifts it so far."""
ALIKE = 1.1
"""Two are said not to differ where the whole interval of their ratio lies within this, either way: a smaller gain is no
reason to change a configuration, and fewer repeats than RECOMMENDED_REPEATS can hardly rule a smaller one out."""
UNSTABLE = 0.05
"""A spread above this is called unstable."""
WIDE = 10
"""An interval whose ends are further apart, as a ratio, is too wide to be told."""
RESAMPLES = 10_000
_BOOTSTRAP_FROM = 6
PER_DECADE = 50
"""Bins of a histogram from 1 to 10 ms, and so on: each 4.7 % wide."""

# Two-sided 95 % of Student's t, by samples.
_STUDENT = {
    2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646, 9: 2.3060, 10: 2.2622, 11: 2.2281,
    12: 2.2010, 13: 2.1788, 14: 2.1604, 15: 2.1448, 16: 2.1314, 17: 2.1199, 18: 2.1098, 19: 2.1009, 20: 2.0930,
}  # fmt: skip

ComparisonVerdict = Literal["faster", "slower", "no difference", "undecided"]


@dataclass(frozen=True)
class SpeedRatio:
    """The speed of a candidate relative to a reference: the median of the ratios within each repeat.

    `speedup` is below 1 if the candidate is slower. The true value lies between `low` and `high` with CONFIDENCE; both
    are None if fewer than two repeats were measured of both.
    """

    speedup: float
    low: float | None
    high: float | None
    repeats: int

    @property
    def verdict(self) -> ComparisonVerdict:
        if self.low is None or self.high is None:
            return "undecided"
        if self.low > 1 + NEGLIGIBLE:
            return "faster"
        if self.high < 1 / (1 + NEGLIGIBLE):
            return "slower"
        # An interval that holds 1 and much besides says that too little is known, not that there is nothing.
        return "no difference" if self.low >= 1 / ALIKE and self.high <= ALIKE else "undecided"

    @property
    def times(self) -> str:
        """Such as `1.9x (1.8 to 2.0)`; without the interval where there is none."""
        if self.low is None or self.high is None:
            return f"{self.speedup:.2f}x"
        digits = _digits(self.low, self.high)
        return f"{self.speedup:.{digits}f}x ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def __str__(self) -> str:
        """Such as `faster by 1.9x (1.8 to 2.0)`, `no difference (0.98x to 1.03x)` and `undecided (0.9x to 1.8x)`."""
        if self.low is None or self.high is None:
            return f"undecided: {self.times} in one repeat, which does not tell a difference from chance"
        if self.verdict == "undecided" and is_wide(self.low, self.high):
            return "undecided: the interval is too wide"
        if self.verdict in ("no difference", "undecided"):
            digits = _digits(self.low, self.high)
            return f"{self.verdict} ({self.low:.{digits}f}x to {self.high:.{digits}f}x)"
        if self.verdict == "slower":
            return f"slower by {SpeedRatio(1 / self.speedup, 1 / self.high, 1 / self.low, self.repeats).times}"
        return f"faster by {self.times}"


def estimate(samples: Sequence[float]) -> Interval:
    """The median of positive values and its interval. Raises ValueError where there is none or one is not positive."""
    low, high = _interval(_logs(samples))
    return Interval(float(np.median(samples)), low, high, len(samples))


def compare(candidate: Mapping[int, float], reference: Mapping[int, float]) -> SpeedRatio:
    """Compare times by repeat, in any unit; only repeats that both have count.

    Runs of one repeat ran one after the other, so that a machine that drifts has drifted alike for both; it does not
    for runs of different repeats. Raises ValueError where no repeat is in both.
    """
    both = sorted(candidate.keys() & reference.keys())
    logs = _logs([reference[repeat] for repeat in both]) - _logs([candidate[repeat] for repeat in both])
    low, high = _interval(logs)
    return SpeedRatio(math.exp(np.median(logs)), low, high, len(both))


def is_wide(low: float | None, high: float | None) -> bool:
    """True if an interval is too wide to be informative; False if there is none."""
    return low is not None and high is not None and high > WIDE * low


def interval_words(interval: Interval | None) -> str | None:
    """Such as `47.6 to 52.6`; None where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    if is_wide(interval.low, interval.high):
        return "too wide"
    return f"{interval.low:.1f} to {interval.high:.1f}"


def spread(samples: Sequence[float]) -> float | None:
    """The standard deviation of runs of one configuration, as a share of their median; None for fewer than two."""
    return float(np.std(samples, ddof=1) / np.median(samples)) if len(samples) > 1 else None


def is_unstable(samples: Sequence[float], bound: float = UNSTABLE) -> bool:
    """True if the spread is above `bound`; False for one sample, which has no spread."""
    found = spread(samples)
    return found is not None and found > bound


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p90 and p99 of latencies, each one that was measured; None with too few to tell (under 2, 10 and 100)."""
    ordered = sorted(seconds)
    count = len(ordered)
    # Nearest rank, in whole numbers: 0.9 * 10 is not 9 in every arithmetic.
    return {
        f"p{share}": ordered[-(-count * share // 100) - 1] if count * (100 - share) >= 100 else None
        for share in (50, 90, 99)
    }


def histogram(seconds: Sequence[float]) -> dict[int, int]:
    """The number of latencies in each bin that holds any: bin n begins at 10 ** (n / PER_DECADE) seconds.

    The bins are the same for all runs, so that their histograms can be added.
    """
    bins = Counter(math.floor(PER_DECADE * math.log10(latency)) for latency in seconds)
    return dict(sorted(bins.items()))


def _logs(samples: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(samples, np.float64)
    if not values.size or not np.all((values > 0) & (values < np.inf)):
        raise ValueError(f"samples are finite and over 0, and there is one at least: {list(samples)}")
    logs: npt.NDArray[np.float64] = np.log(values)
    return logs


def _interval(logs: npt.NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """The interval of the exponential of the median."""
    count = len(logs)
    if count < 2:
        return None, None
    # Between 15 and 20 steps apart the quantile is off by under 0.1 %; beyond it nears the normal distribution's.
    student = _STUDENT.get(count, 1.96 + 2.5 / (count - 1))
    if count < _BOOTSTRAP_FROM:
        half = student * float(np.std(logs, ddof=1)) / math.sqrt(count)
        # Within it lies the median, too, which is never further from the mean than a standard deviation.
        middle = float(np.mean(logs))
        return math.exp(middle - half), math.exp(middle + half)
    lower, upper = _middles(count)
    ordered = np.sort(logs)
    medians = (ordered[lower] + ordered[upper]) / 2
    # Plain percentiles of a bootstrap are too narrow for few samples: as if a normal distribution's quantile were taken
    # in place of Student's, and a variance of n in place of n - 1.
    tail = 0.5 * math.erfc(student * math.sqrt(count / (count - 1)) / math.sqrt(2))
    low, high = np.quantile(medians, (tail, 1 - tail))
    return math.exp(low), math.exp(high)


@functools.cache
def _middles(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places [RESAMPLES], among the sorted samples, of the lower and the upper middle of each resample."""
    picked = np.sort(np.random.default_rng(0).integers(0, count, (RESAMPLES, count)), axis=1)
    return picked[:, (count - 1) // 2], picked[:, count // 2]


def _digits(low: float, high: float) -> int:
    """Decimals that tell the ends of an interval apart, and from 1."""
    for digits in (1, 2):
        ends = {f"{end:.{digits}f}" for end in (low, high, 1.0)}
        if len(ends) == 3:
            return digits
    return 3
