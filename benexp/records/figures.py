"""Small types that several records share."""

from dataclasses import dataclass
from typing import Any, Literal

Number = int | float
BackendDescription = dict[str, Any]
"""A backend's `describe()`. Open-ended: a user's own backend adds keys."""


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
class RunUsage:
    """The resources that a whole run took."""

    seconds: float
    cpu_seconds: float
    other_cores: float | None
    """Cores' worth of work the rest of the machine did over the whole run; None where that was shorter than 1 s."""
    stolen_cores: float | None
    """Cores' worth of time that went to other machines, likewise."""
    run_peak_rss_bytes: int
    """The largest of the samples, or what the kernel noted of this process in between."""
    peak_rss_bytes: int
    """The same of the process since it started, loading and compiling included: what a machine has to have."""
    cpu_joules: float | None
    """Energy of the processor's packages, with whatever else ran on them."""
    device_joules: float | None
    sampler_cpu_seconds: float
    """Processor time of sampling itself."""
    error: str | None
    """Why sampling ended before the run did."""


@dataclass(frozen=True, kw_only=True)
class UsageSummary(RunUsage):
    """The resources that a run took, with some figures of its samples."""

    start: dict[str, Number]
    """Each known value of a sample, by name, at the start; `end` and `peak` likewise."""
    end: dict[str, Number]
    peak: dict[str, Number]
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
