"""A sweep's report on one configuration: its results, compared with the reference."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benexp.benchmarking.agreement import Comparisons
from benexp.benchmarking.configuration_results import ConfigurationResults
from benexp.benchmarking.reference_comparison import Flips, count_flips, drift_verdicts, incomparable, speedup
from benexp.measure.statistics import estimate, spread
from benexp.records.figures import Verdict
from benexp.records.sweep import INTERRUPTED, Configuration


def summary_of(
    one: ConfigurationResults, reference: ConfigurationResults | None, comparisons: Comparisons, folder: Path
) -> Configuration:
    """The report's part on one configuration, as long as nothing is known of the others' fronts and limits."""
    times, ceilings = list(one.seconds.values()), list(one.ceilings.values())
    median = estimate(times) if times else None
    patches = sum(map_.tile.patches for map_ in one.maps) if one.maps else None
    km2 = sum(map_.tile.km2 for map_ in one.maps) if one.maps else None
    reason = incomparable(one, reference)
    flips = Flips(flips_unknown=reason)
    if reference and not reason:
        flips = count_flips(one, reference, comparisons)
    settings: dict[str, Any] = {key: one.backend.get(key) for key in ("device", "provider", "batch_size", "threads")}
    verdicts = one.verdicts(drift_verdicts(one, reference))
    return Configuration(
        configuration=one.label.name,
        overrides=one.label.overrides,
        config_hash=one.hash,
        jobs=[str(place.relative_to(folder)) for place in one.jobs],
        status="failed" if one.failed else "done",
        repeats=sorted(job.repeat for job in one.jobs.values()),
        failed=one.failed,
        errors=one.errors,
        backend=one.name,
        precision=one.precision,
        **settings,
        chunk_size=one.first.config["chunking"]["chunk_size"],
        seconds=one.seconds,
        median=median,
        spread=spread(times),
        stage_seconds=one.stage_seconds,
        patches=patches,
        km2=km2,
        patches_per_second=median.rate(patches) if median and patches is not None else None,
        km2_per_second=median.rate(km2) if median and km2 is not None else None,
        ceiling_seconds=estimate(ceilings) if ceilings else None,
        peak_rss_bytes=one.peak_rss_bytes,
        peak_device_memory_bytes=one.peak_device_memory_bytes,
        memory_bytes=max(filter(None, (one.peak_rss_bytes, one.peak_device_memory_bytes)), default=None),
        map_hashes={map_.tile.tile: map_.hash for map_ in one.maps},
        compared=reason is None,
        **asdict(flips),
        against_reference=speedup(one, reference),
        verdicts=verdicts,
        problems=one.problems,
        left_out=_refused(one, verdicts, reason),
    )


def _refused(one: ConfigurationResults, verdicts: Sequence[Verdict], reason: str | None) -> str | None:
    """Why it would not be recommended under any limits; `reason` is why it cannot be compared with the reference."""
    if one.failed:
        return INTERRUPTED if one.errors == [INTERRUPTED] else f"failed: {'; '.join(one.errors)}"
    if one.is_null:
        return "it classifies nothing"
    if fallback := next((verdict.sentence for verdict in verdicts if verdict.code == "fallback"), None):
        return fallback
    return "its maps disagree" if one.problems else reason
