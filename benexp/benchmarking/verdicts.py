"""Verdicts on a run's times, in plain words: was it what was asked for, and was the machine its own?"""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benexp.core import cores
from benexp.measure.nvml import HARDWARE_SLOWDOWN, POWER_CAP, THERMAL_SLOWDOWN
from benexp.measure.resources import Sample, Usage
from benexp.measure.statistics import UNSTABLE, spread
from benexp.records.figures import Verdict

OTHER_LOAD = 0.05
"""Share of the machine's cores from which on the work of others counts."""
STOLEN = 0.01
"""Share of the machine's cores from which on time that a hypervisor took counts."""
QUOTA = 0.01
"""Share of the quota's periods from which on being stopped counts."""
SLOWED = 0.05
"""Share of the looks at a GPU, and of a processor's base frequency, from which on slowing down counts."""


@dataclass(frozen=True)
class Throttling:
    """The times that a control group's CPU quota has stopped it so far."""

    periods: int
    throttled_periods: int
    throttled_seconds: float
    """Summed over cores."""


@dataclass(frozen=True)
class Conditions:
    """Counters of the machine so far, to be read before and after a run."""

    cores: int
    """Cores of the machine."""
    quota: float | None
    """Cores' worth of time that control groups allow."""
    throttling: dict[str, Throttling]
    """By control group, of those that count."""
    heat_events: int | None
    """Times that a core or a package of the processor slowed down because of heat; None where it is unknown."""
    base_mhz: float | None
    """The frequency that the processor is sold to hold under any load."""


def read_conditions(root: Path = Path("/")) -> Conditions:
    throttling = {
        str(group): found for group in dict.fromkeys(cores.groups(root)) if (found := _throttling(group)) is not None
    }
    cpus = root / "sys/devices/system/cpu"
    cores_heat, packages_heat = (_counts(cpus, kind) for kind in ("core", "package"))
    base = cpus / "cpu0/cpufreq/base_frequency"
    return Conditions(
        cores=os.cpu_count() or 1,
        quota=cores.quota(root),
        throttling=throttling,
        # Every core repeats its package's count.
        heat_events=sum(cores_heat) + max(packages_heat, default=0) if cores_heat or packages_heat else None,
        base_mhz=int(base.read_text()) / 1000 if base.exists() else None,
    )


def run_verdicts(
    backend: Mapping[str, Any],
    warm: Mapping[str, Any],
    usage: Usage,
    before: Conditions,
    after: Conditions,
) -> list[Verdict]:
    """The verdicts on one measured run, the worst first.

    `backend` is what it described itself as when the run was over, `warm` when it was open and timing began; `usage`
    and the conditions `before` and `after` are of what was timed.
    """
    found = [
        *_backend_verdicts(backend, warm),
        *_load_verdicts(usage, before.cores),
        *_throttle_verdicts(usage, before, after),
        *_quota_verdicts(before, after),
    ]
    return sorted(found, key=lambda verdict: verdict.severity == "note")


def spread_verdicts(seconds: Sequence[float], bound: float = UNSTABLE) -> list[Verdict]:
    """The verdicts on the repeats of one configuration."""
    found = spread(seconds)
    if found is None:
        return [Verdict("one-run", "note", "one run only: how far runs vary is unknown")]
    if found <= bound:
        return []
    words = f"unstable: {len(seconds)} runs vary by {found:.1%} (standard deviation), more than {bound:.0%}"
    return [Verdict("unstable", "warning", words)]


def _backend_verdicts(backend: Mapping[str, Any], warm: Mapping[str, Any]) -> list[Verdict]:
    found = []
    if backend.get("fallback"):
        found.append(Verdict("fallback", "warning", f"not what was asked for: it ran on {backend['fallback']}"))
    if backend.get("engine_cache") == "built":
        if warm.get("engine_cache") == "built":
            found.append(Verdict("engine-built", "note", "the engine was built in this run, before timing began"))
        else:
            found.append(Verdict("engine-rebuilt", "warning", "the engine was rebuilt while the run was timed"))
    if backend.get("batch_size") != warm.get("batch_size"):
        change = f"from {warm.get('batch_size')} to {backend.get('batch_size')} patches"
        found.append(Verdict("batch-changed", "warning", f"memory ran out while timed: the batch went {change}"))
    elif backend.get("batch_size_asked") not in (None, "auto", backend.get("batch_size")):
        change = f"{backend.get('batch_size')} patches at once in place of {backend['batch_size_asked']}"
        found.append(Verdict("batch-halved", "warning", f"not what was asked for: memory was enough for {change}"))
    return found


def _load_verdicts(usage: Usage, machine: int) -> list[Verdict]:
    found = []
    if usage.error is not None:
        words = f"the machine was watched for a part of the run only: {usage.error}"
        found.append(Verdict("not-watched", "warning", words))
    if usage.other_cores is None or usage.stolen_cores is None:
        words = "shorter than a second: other load on the machine is unknown"
        return [*found, Verdict("too-short", "note", words)]
    if usage.other_cores > OTHER_LOAD * machine:
        words = f"something else kept {usage.other_cores:.1f} of the machine's {machine} cores busy"
        found.append(Verdict("other-load", "warning", words))
    if usage.stolen_cores > STOLEN * machine:
        words = f"the hypervisor gave {usage.stolen_cores:.2f} of the machine's {machine} cores to other machines"
        found.append(Verdict("stolen", "warning", words))
    return found


def _throttle_verdicts(usage: Usage, before: Conditions, after: Conditions) -> list[Verdict]:
    found = []
    if before.heat_events is not None and after.heat_events is not None and after.heat_events > before.heat_events:
        words = f"the processor slowed down because of heat, {after.heat_events - before.heat_events} times"
        found.append(Verdict("throttled", "warning", words))
    # An idle core clocks down, and that is all right.
    busy = [s.cpu_mhz for s in usage.samples if s.cpu_mhz is not None and (s.cpu_percent or 0) >= 50]
    if busy and before.base_mhz is not None and (middle := statistics.median(busy)) < (1 - SLOWED) * before.base_mhz:
        words = f"even the fastest core ran at {middle:.0f} MHz, below the processor's base of {before.base_mhz:.0f}"
        found.append(Verdict("slow-clock", "warning", words))
    # A single look may meet a GPU as it changes its clock, which counts as slowing down.
    slowed = _share(usage.samples, THERMAL_SLOWDOWN | HARDWARE_SLOWDOWN)
    if slowed > SLOWED:
        words = f"the GPU slowed down because of heat or its power supply in {slowed:.0%} of the looks"
        found.append(Verdict("gpu-throttled", "warning", words))
    if (capped := _share(usage.samples, POWER_CAP)) > SLOWED:
        found.append(Verdict("gpu-power-limit", "note", f"the GPU was at its power limit in {capped:.0%} of the looks"))
    return found


def _share(samples: Sequence[Sample], reasons: int) -> float:
    """The share of the looks at a GPU that met one of these reasons."""
    known = [s.device_clock_reasons for s in samples if s.device_clock_reasons is not None]
    return sum(bool(bits & reasons) for bits in known) / len(known) if known else 0.0


def _quota_verdicts(before: Conditions, after: Conditions) -> list[Verdict]:
    if before.quota is None:
        return []
    quota = f"the CPU quota of {before.quota:g} cores"
    since = (
        (
            now.throttled_periods - then.throttled_periods,
            now.periods - then.periods,
            now.throttled_seconds - then.throttled_seconds,
        )
        for group, now in after.throttling.items()
        if (then := before.throttling.get(group)) is not None
    )
    throttled, periods, seconds = max(since, default=(0, 0, 0.0))
    if throttled and throttled >= QUOTA * periods:
        words = f"{quota} stopped the run in {throttled} of {periods} periods, for {seconds:.1f} s summed over cores"
        return [Verdict("cpu-quota", "warning", words)]
    if before.quota < before.cores:
        return [Verdict("under-quota", "note", f"{quota} held, of the machine's {before.cores}, and did not stop it")]
    return []


def _throttling(group: Path) -> Throttling | None:
    """The counters of a group's folder (version 2, then 1); None where it does not count."""
    for file in (group / "cpu.stat", group / "cpu/cpu.stat"):
        if file.exists():
            counts = dict(line.split() for line in file.read_text().splitlines())
            if "nr_throttled" in counts:
                # Microseconds in version 2, nanoseconds in version 1.
                seconds = int(counts.get("throttled_usec", 0)) / 1e6 + int(counts.get("throttled_time", 0)) / 1e9
                return Throttling(int(counts["nr_periods"]), int(counts["nr_throttled"]), seconds)
    return None


def _counts(cpus: Path, kind: str) -> list[int]:
    return [int(file.read_text()) for file in cpus.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")]
