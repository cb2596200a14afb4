"""Whether a run's times can be trusted, on made-up runs and machines."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benexp.benchmarking.verdicts import (
    Conditions,
    Throttling,
    Verdict,
    read_conditions,
    run_verdicts,
    spread_verdicts,
)
from benexp.measure.resources import ResourceSampler, Sample, Usage

LOOK = Sample(
    seconds=1.0,
    rss_bytes=10**9,
    cpu_percent=380.0,
    other_cores=0.05,
    stolen_cores=0.0,
    load_average=4.0,
    open_files=20,
    threads=9,
    processes=1,
    cpu_mhz=3100.0,
    device_memory_bytes=None,
    device_watts=None,
    device_clock_reasons=None,
)
USAGE = Usage(
    samples=(LOOK,) * 20,
    seconds=10.0,
    cpu_seconds=38.0,
    other_cores=0.05,
    stolen_cores=0.0,
    run_peak_rss_bytes=10**9,
    peak_rss_bytes=10**9,
    cpu_joules=None,
    device_joules=None,
    sampler_cpu_seconds=0.02,
    error=None,
)
CONDITIONS = Conditions(cores=4, quota=None, throttling={}, heat_events=7, base_mhz=2400.0)
BACKEND = {"backend": "OnnxRuntimeBackend", "fallback": None, "batch_size": 32, "batch_size_asked": 32}


def verdicts(
    backend: dict[str, Any] | None = None,
    warm: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> list[Verdict]:
    """Of a run without fault but for these changes; `after` has those of `before`, too."""
    return run_verdicts(
        BACKEND | (backend or {}),
        BACKEND | (warm if warm is not None else backend or {}),
        dataclasses.replace(USAGE, **(usage or {})),
        dataclasses.replace(CONDITIONS, **(before or {})),
        dataclasses.replace(CONDITIONS, **(before or {}) | (after or {})),
    )


def only(found: list[Verdict]) -> tuple[str, str, str]:
    (verdict,) = found
    return verdict.code, verdict.severity, verdict.sentence


def test_a_run_without_fault_has_no_verdict() -> None:
    assert verdicts() == []


def test_fallback() -> None:
    assert only(verdicts({"fallback": "CPUExecutionProvider in place of CUDAExecutionProvider"})) == (
        "fallback",
        "warning",
        "not what was asked for: it ran on CPUExecutionProvider in place of CUDAExecutionProvider",
    )


@pytest.mark.parametrize(
    ("warm", "over", "expected"),
    [
        ("reused", "built", ["engine-rebuilt"]),
        ("built", "built", ["engine-built"]),
        ("reused", "reused", []),
        (None, None, []),
    ],
)
def test_engines(warm: str | None, over: str | None, expected: list[str]) -> None:
    found = verdicts({"engine_cache": over}, {"engine_cache": warm})
    assert [verdict.code for verdict in found] == expected


def test_a_batch_that_was_halved_while_timed() -> None:
    code, severity, sentence = only(verdicts({"batch_size": 16}, {"batch_size": 32}))
    assert (code, severity) == ("batch-changed", "warning")
    assert "from 32 to 16 patches" in sentence


def test_a_batch_that_was_halved_before() -> None:
    code, _, sentence = only(verdicts({"batch_size": 8}))
    assert code == "batch-halved"
    assert "8 patches at once in place of 32" in sentence


def test_an_automatic_batch_is_what_was_asked_for() -> None:
    assert verdicts({"batch_size": 8, "batch_size_asked": "auto"}) == []


def test_other_load_is_of_the_machine() -> None:
    found = verdicts(usage={"other_cores": 1.23})
    assert only(found) == ("other-load", "warning", "something else kept 1.2 of the machine's 4 cores busy")
    assert verdicts(usage={"other_cores": 1.23}, before={"cores": 64}) == []


def test_time_that_a_hypervisor_took() -> None:
    assert only(verdicts(usage={"stolen_cores": 0.3}))[:2] == ("stolen", "warning")


def test_what_was_not_watched_is_not_called_good() -> None:
    assert only(verdicts(usage={"other_cores": None, "stolen_cores": None}))[:2] == ("too-short", "note")
    assert only(verdicts(usage={"error": "no such counter"}))[0] == "not-watched"


def test_heat() -> None:
    code, _, sentence = only(verdicts(after={"heat_events": 10}))
    assert (code, sentence) == ("throttled", "the processor slowed down because of heat, 3 times")
    assert verdicts(before={"heat_events": None}) == []


def test_a_clock_below_base_counts_while_busy() -> None:
    slow = dataclasses.replace(LOOK, cpu_mhz=1900.0)
    assert only(verdicts(usage={"samples": (slow,) * 20}))[0] == "slow-clock"
    idle = dataclasses.replace(slow, cpu_percent=3.0)
    assert verdicts(usage={"samples": (idle,) * 20}) == []
    assert verdicts(usage={"samples": (slow,) * 20}, before={"base_mhz": None}) == []


@pytest.mark.parametrize(
    ("bits", "looks", "expected"),
    [
        (0x40, 10, ("gpu-throttled", "warning")),
        (0x08, 10, ("gpu-throttled", "warning")),
        # A change of clock.
        (0x08, 1, None),
        (0x04, 10, ("gpu-power-limit", "note")),
        # Idle.
        (0x01, 20, None),
    ],
)
def test_gpu_clocks(bits: int, looks: int, expected: tuple[str, str] | None) -> None:
    samples = [dataclasses.replace(LOOK, device_clock_reasons=bits if i < looks else 0) for i in range(20)]
    found = verdicts(usage={"samples": tuple(samples)})
    assert [(verdict.code, verdict.severity) for verdict in found] == ([expected] if expected else [])


def test_a_quota_that_stopped_the_run() -> None:
    found = verdicts(
        before={"quota": 1.5, "throttling": {"outer": Throttling(50, 1, 0.5), "inner": Throttling(100, 10, 2.0)}},
        after={"throttling": {"outer": Throttling(150, 1, 0.5), "inner": Throttling(200, 50, 14.5)}},
    )
    assert only(found) == (
        "cpu-quota",
        "warning",
        "the CPU quota of 1.5 cores stopped the run in 40 of 100 periods, for 12.5 s summed over cores",
    )


def test_a_quota_that_did_not() -> None:
    found = verdicts(before={"quota": 2.0, "throttling": {"own": Throttling(100, 10, 2.0)}})
    assert only(found)[:2] == ("under-quota", "note")
    assert verdicts(before={"quota": 4.0}) == []


def test_warnings_come_first() -> None:
    found = verdicts({"engine_cache": "built"}, {"engine_cache": "built"}, usage={"other_cores": 3.0})
    assert [verdict.severity for verdict in found] == ["warning", "note"]


def test_spread() -> None:
    assert spread_verdicts([10.0, 10.1, 9.9]) == []
    assert only(spread_verdicts([9.0, 10.0, 11.0])) == (
        "unstable",
        "warning",
        "unstable: 3 runs vary by 10.0% (standard deviation), more than 5%",
    )
    assert spread_verdicts([9.0, 10.0, 11.0], bound=0.2) == []
    assert only(spread_verdicts([9.0]))[:2] == ("one-run", "note")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_reading_version_2(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/box\n",
            # The root counts no throttling.
            "sys/fs/cgroup/cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n",
            "sys/fs/cgroup/box/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/box/cpu.stat": "usage_usec 5\nnr_periods 90\nnr_throttled 30\nthrottled_usec 2500000\n",
        },
    )
    found = read_conditions(tmp_path)
    assert found.quota == 2.5
    assert found.throttling == {str(tmp_path / "sys/fs/cgroup/box"): Throttling(90, 30, 2.5)}
    assert (found.heat_events, found.base_mhz) == (None, None)


def test_reading_version_1(tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/cgroup/cpu/cpu.stat": "nr_periods 90\nnr_throttled 30\nthrottled_time 1500000000\n"})
    found = read_conditions(tmp_path)
    assert found.quota is None
    assert list(found.throttling.values()) == [Throttling(90, 30, 1.5)]


def test_reading_heat_and_clock(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu"
    write(
        tmp_path,
        {
            **{f"{cpu}{n}/thermal_throttle/core_throttle_count": f"{n}\n" for n in (1, 2)},
            **{f"{cpu}{n}/thermal_throttle/package_throttle_count": "5\n" for n in (1, 2)},
            f"{cpu}0/cpufreq/base_frequency": "2400000\n",
        },
    )
    found = read_conditions(tmp_path)
    assert (found.heat_events, found.base_mhz) == (8, 2400.0)


def test_a_real_machine_can_be_read() -> None:
    before = read_conditions()
    with ResourceSampler() as sampler:
        pass
    found = run_verdicts(BACKEND, BACKEND, sampler.usage, before, read_conditions())
    assert "too-short" in {verdict.code for verdict in found}
