"""Small types that several records share."""

from dataclasses import dataclass
from typing import Literal

Number = int | float


@dataclass(frozen=True)
class Verdict:
    """`code` is for programs, `sentence` for people; after a warning the times are not what they seem."""

    code: str
    severity: Literal["note", "warning"]
    sentence: str


@dataclass(frozen=True)
class Interval:
    """A median of `samples` values and, from two on, the interval that holds the true one at 95 %."""

    median: float
    low: float | None
    high: float | None
    samples: int

    def rate(self, count: float) -> "Interval":
        """`count` per second, of an interval of seconds."""
        low, high = (None if end is None else count / end for end in (self.high, self.low))
        return Interval(count / self.median, low, high, self.samples)


@dataclass(frozen=True)
class Estimate:
    """About what one tile takes, in bytes; device memory is not estimated."""

    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class UsageSummary:
    """The resources that a run took; see `benexp.measure.resources.Usage` for the single fields."""

    start: dict[str, Number]
    """Each known value of a sample, by name, at the start; `end` and `peak` likewise."""
    end: dict[str, Number]
    peak: dict[str, Number]
    seconds: float
    cpu_seconds: float
    other_cores: float | None
    stolen_cores: float | None
    run_peak_rss_bytes: int
    peak_rss_bytes: int
    cpu_joules: float | None
    device_joules: float | None
    sampler_cpu_seconds: float
    error: str | None
    samples: int
    """Their count."""
    over_time: dict[str, list[Number | None]]
    """Some of the values by moments, of which there are `seconds`."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """All tiles of a job together; rates and memory are null where none was done."""

    done: int
    failed: int
    seconds: float
    patches_per_second: float | None
    km2_per_second: float | None
    peak_rss_bytes: int | None
