"""Which of the measured configurations to use, under limits on memory and on how far the map may differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benexp.measure.statistics import Comparison, compare


@dataclass(frozen=True)
class Candidate:
    """What a recommendation goes by: `refused` says why it would not be recommended under any limits."""

    name: str
    seconds: Mapping[int, float]
    """By repeat; never empty unless it is refused."""
    median: float | None
    memory_bytes: float | None
    flips_per_million: float | None
    refused: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a recommended configuration may need at most; None: any."""

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
        """How many times over its worst limit a candidate is; infinite where a value is unknown, or the limit is 0."""
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
    """Where nothing keeps the limits: what is the least over them."""
    no_difference_from: list[str] = field(default_factory=list)
    """What else keeps the limits and was not measured to be slower than the best, the fastest first."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why each of the others was not considered."""


def recommend(candidates: Sequence[Candidate], reference: Candidate | None, limits: Limits) -> Recommendation:
    """The fastest candidate that keeps the limits, how many times as fast as the reference, and what is as fast."""
    reasons = {one.name: one.refused or ", ".join(limits.broken(one)) for one in candidates}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    fitting = sorted((one for one in candidates if not reasons[one.name]), key=_median)
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
    sentence = f"fastest{asked}: {best.name}: {_against(best, reference)}"
    compared = [(one, _compared(best, one)) for one in others]
    close = [(one, found) for one, found in compared if found is None or found.verdict != "faster"]
    if close:
        runner_up, found = close[0]
        more = f", or from {len(close) - 1} more" if len(close) > 1 else ""
        if found is None or found.low is None or found.high is None:
            sentence += f"; too few repeats to tell it from {runner_up.name}{more}"
        else:
            sentence += f"; no difference measured from {runner_up.name} ({found.times}){more}"
    return Recommendation(sentence, best.name, None, [one.name for one, _ in close], left_out)


def _against(best: Candidate, reference: Candidate | None) -> str:
    if reference is None:
        return "there is no reference to compare it with"
    if best.name == reference.name:
        return "the reference itself"
    found = _compared(best, reference)
    if found is None:
        return f"no repeat was measured of both it and the reference, {reference.name}"
    once = "" if found.low is not None else " in the one repeat that was measured"
    return f"{found.times} the speed of {reference.name}{once}"


def _compared(candidate: Candidate, reference: Candidate) -> Comparison | None:
    """None where no repeat was measured of both."""
    if not candidate.seconds.keys() & reference.seconds.keys():
        return None
    return compare(candidate.seconds, reference.seconds)


def _median(candidate: Candidate) -> float:
    assert candidate.median is not None
    return candidate.median


def _ratio(value: float | None, limit: float) -> float:
    if value is None or (limit == 0 and value > 0):
        return float("inf")
    return value / limit if limit else 0.0
