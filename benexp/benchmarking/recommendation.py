"""Which of the measured configurations to use, under limits on memory and on how far the map may differ.

Times that vary widely keep nothing from being recommended: the sentence says how sure it is.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benexp.measure.statistics import RECOMMENDED_REPEATS, SpeedRatio, compare, is_wide


@dataclass(frozen=True)
class Candidate:
    """The figures that a recommendation goes by: `refused` says why it would not be recommended under any limits."""

    name: str
    seconds: Mapping[int, float]
    """By repeat; never empty unless it is refused."""
    memory_bytes: float | None
    flips_per_million: float | None
    refused: str | None = None
    unstable: float | None = None
    """The spread of its seconds, where that is more than they may vary."""


@dataclass(frozen=True)
class Limits:
    """The most that a recommended configuration may need; None: any."""

    memory_gb: float | None = None
    flips_per_million: float | None = None

    def __str__(self) -> str:
        """Such as `under 6 GB with at most 50 flipped pixels per million`; empty without limits."""
        words = []
        if self.memory_gb is not None:
            words.append(f"under {self.memory_gb:g} GB")
        if self.flips_per_million is not None:
            words.append(f"with at most {self.flips_per_million:g} flipped pixels per million")
        return " ".join(words)

    def broken(self, candidate: Candidate) -> list[str]:
        """Which of them a candidate does not keep, in words."""
        checked = (
            (candidate.memory_bytes, self.memory_gb, 1e9, "GB of memory"),
            (candidate.flips_per_million, self.flips_per_million, 1.0, "flipped pixels per million"),
        )
        words = []
        for value, limit, unit, what in checked:
            if limit is not None and value is None:
                words.append(f"its {what} are unknown")
            elif limit is not None and value is not None and value > limit * unit:
                words.append(f"{value / unit:.3g} {what}" if value / unit < 1000 else f"{value / unit:,.0f} {what}")
        return words

    def excess(self, candidate: Candidate) -> float:
        """The largest ratio of a candidate's value to its limit; infinite for an unknown value, or a limit of 0."""
        pairs = (
            (candidate.memory_bytes, self.memory_gb and 1e9 * self.memory_gb),
            (candidate.flips_per_million, self.flips_per_million),
        )
        ratios = [_ratio(value, limit) for value, limit in pairs if limit is not None]
        return max(ratios, default=0.0)


@dataclass(frozen=True)
class Recommendation:
    """One sentence for people, and what it says for programs. Names are those of the candidates."""

    sentence: str
    best: str | None
    nearest: str | None
    """The one that is the least over the limits, where nothing keeps them."""
    not_told_apart: list[str] = field(default_factory=list)
    """Others that keep the limits and were not measured to be slower than the best, the fastest first."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why each of the others was not considered."""


def recommend(candidates: Sequence[Candidate], reference: Candidate | None, limits: Limits) -> Recommendation:
    """The fastest candidate that keeps the limits, how many times as fast as the reference, and how sure that is."""
    reasons = {one.name: one.refused or ", ".join(limits.broken(one)) for one in candidates}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    fitting = _fastest_first([one for one in candidates if not reasons[one.name]])
    asked = f" {limits}" if str(limits) else ""
    if not fitting:
        # A limit of 0 makes every excess infinite: then fewer flips and less memory are nearer.
        usable = sorted(
            (one for one in candidates if not one.refused),
            key=lambda one: (limits.excess(one), one.flips_per_million or 0, one.memory_bytes or 0),
        )
        if not usable:
            return Recommendation(
                "nothing can be recommended: every configuration was left out", None, None, [], left_out
            )
        nearest = usable[0]
        sentence = f"nothing fits{asked}: {nearest.name} comes nearest ({reasons[nearest.name]})"
        return Recommendation(sentence, None, nearest.name, [], left_out)
    best, *others = fitting
    compared = [(one, _compared(best, one)) for one in others]
    close = [(one, found) for one, found in compared if found is None or found.verdict != "faster"]
    words = [f"fastest{asked}: {best.name}: {_against(best, reference)}"]
    if unnamed := [(one, found) for one, found in close if reference is None or one.name != reference.name]:
        more = f", or from {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        words.append(f"{_apart(*unnamed[0])}{more}")
    if best.unstable is not None:
        words.append(f"its {len(best.seconds)} runs vary by {best.unstable:.0%}")
    if not all(_is_alike(found) for _, found in close) and len(best.seconds) < RECOMMENDED_REPEATS:
        words.append(f"to be surer, measure {RECOMMENDED_REPEATS} repeats on a quiet machine")
    return Recommendation("; ".join(words), best.name, None, [one.name for one, _ in close], left_out)


def _fastest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By the medians over the repeats that all have, as the machine may have been another in the others."""
    shared = set.intersection(*(set(one.seconds) for one in candidates)) if candidates else set()

    def median(one: Candidate) -> float:
        return statistics.median(one.seconds[repeat] for repeat in shared or one.seconds)

    return sorted(candidates, key=median)


def _against(best: Candidate, reference: Candidate | None) -> str:
    if reference is None:
        return "there is no reference to compare it with"
    if best.name == reference.name:
        return "the reference itself"
    found = _compared(best, reference)
    if found is None:
        return f"no repeat was measured of both it and the reference, {reference.name}"
    if found.low is None:
        return f"{found.times} the speed of {reference.name} in the one repeat that was measured"
    if found.verdict in ("faster", "slower"):
        return f"{found.times} the speed of {reference.name}"
    return _apart(reference, found)


def _apart(other: Candidate, found: SpeedRatio | None) -> str:
    """Why the best cannot be said to be faster than another."""
    if found is None or found.low is None:
        return f"too few repeats to tell it from {other.name}"
    if is_wide(found.low, found.high):
        return f"not told apart from {other.name} (the interval is too wide)"
    return f"{'no difference measured' if _is_alike(found) else 'not told apart'} from {other.name} ({found.times})"


def _is_alike(found: SpeedRatio | None) -> bool:
    return found is not None and found.verdict == "no difference"


def _compared(candidate: Candidate, reference: Candidate) -> SpeedRatio | None:
    """None where no repeat was measured of both."""
    if not candidate.seconds.keys() & reference.seconds.keys():
        return None
    return compare(candidate.seconds, reference.seconds)


def _ratio(value: float | None, limit: float) -> float:
    if value is None or (limit == 0 and value > 0):
        return float("inf")
    return value / limit if limit else 0.0
