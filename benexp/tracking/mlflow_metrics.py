"""The metrics of a record for MLflow, from the fields of its type."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from benexp.benchmarking.labels import flat
from benexp.records.comparison import ComparisonRecord
from benexp.records.evaluation import MapEvaluation, PatchEvaluation
from benexp.records.job import JobReport
from benexp.records.report_files import PERCENTILES, STAGES
from benexp.records.run import RunRecord
from benexp.records.sweep import SweepReport
from benexp.records.tile import DoneTile
from benexp.tracking.sent_records import Content, FoundRecord, Parity

LONGEST_KEY = 250
"""MLflow takes no more characters."""

Metric = tuple[str, float, int]
"""Name, value and step: the number of the tile."""
Known = tuple[str, float | None, int]
"""The same, with None for an unknown value."""


def metrics_of(record: FoundRecord) -> list[Metric]:
    known = _known(record.content)
    return [(key(name), float(f"{value:.6g}"), step) for name, value, step in known if value is not None]


def _known(content: Content) -> Iterator[Known]:
    match content:
        case JobReport():
            return _of_job(content)
        case SweepReport():
            return _of_sweep(content)
        case RunRecord():
            return _of_run(content)
        case ComparisonRecord():
            return _of_comparison(content)
        case MapEvaluation() | PatchEvaluation():
            return _of_evaluation(content)
    return _of_export(content)


def flips_of_job(sweep: FoundRecord, job: FoundRecord) -> dict[str, float]:
    """The metric that only the sweep's report has of a job: the difference of its map from the reference's."""
    if not isinstance(sweep.content, SweepReport) or not isinstance(job.content, JobReport):
        return {}
    own = job.content.config_hash
    flips = next((one.flips_per_million for one in sweep.content.configurations if one.config_hash == own), None)
    return {} if flips is None else {"flips_per_million": flips}


def key(name: str) -> str:
    """A name as MLflow takes it on every system."""
    return re.sub(r"[^\w./ -]+", "-", name, flags=re.ASCII)[:LONGEST_KEY]


def _of_job(report: JobReport) -> Iterator[Known]:
    """The whole run's; under `tile.` those of each tile, a step per tile."""
    tiles, totals = report.done, report.totals
    if totals is None:  # it failed before it measured
        return
    yield "seconds.total", totals.seconds, 0
    for stage in STAGES:
        yield f"seconds.{stage}", sum(tile.stage_seconds.get(stage, 0.0) for tile in tiles), 0
    for name, took in report.startups[-1].open_seconds.items() if report.startups else ():
        yield f"seconds.startup.{name}", took, 0
    yield "tiles.done", totals.done, 0
    yield "tiles.failed", totals.failed, 0
    yield "patches_per_second", totals.patches_per_second, 0
    yield "km2_per_second", totals.km2_per_second, 0
    yield "peak_rss_mb", _mega(totals.peak_rss_bytes), 0
    for share in PERCENTILES:
        # Percentiles of several tiles cannot be joined: of the slowest.
        yield f"latency_ms.{share}", _most(_thousand(tile.latency_seconds[share]) for tile in tiles), 0
    device_memory = (tile.usage.peak.get("device_memory_bytes") for tile in tiles)
    yield "peak_device_memory_mb", _most(_mega(count) for count in device_memory), 0
    yield "joules.cpu", _sum(tile.usage.cpu_joules for tile in tiles), 0
    yield "joules.device", _sum(tile.usage.device_joules for tile in tiles), 0
    yield "warnings", sum(verdict.severity == "warning" for tile in tiles for verdict in tile.verdicts), 0
    if report.ceiling and report.ceiling.totals:
        yield "ceiling.km2_per_second", report.ceiling.totals.km2_per_second, 0
    for step, tile in enumerate(report.tiles):
        if isinstance(tile, DoneTile):
            yield from ((f"tile.{name}", value, step) for name, value in _of_tile(tile))


def _of_tile(tile: DoneTile) -> Iterator[tuple[str, float | None]]:
    yield "seconds", tile.seconds
    for stage in STAGES:
        yield f"seconds.{stage}", tile.stage_seconds.get(stage)
    yield "patches_per_second", tile.patches_per_second
    yield "km2_per_second", tile.km2_per_second
    yield "peak_rss_mb", _mega(tile.usage.peak_rss_bytes)
    for share in PERCENTILES:
        yield f"latency_ms.{share}", _thousand(tile.latency_seconds[share])


def _of_sweep(report: SweepReport) -> Iterator[Known]:
    """The figures of the recommended configuration; each configuration's are with its jobs."""
    yield "jobs", len(report.jobs), 0
    yield "configurations", len(report.configurations), 0
    yield "problems", len(report.problems), 0
    recommended = report.recommendation.config_hash
    best = next((one for one in report.configurations if one.config_hash == recommended), None)
    if best:
        speed = best.patches_per_second
        yield "recommended.patches_per_second", speed.median if speed else None, 0
        yield "recommended.memory_mb", _mega(best.memory_bytes), 0
        yield "recommended.flips_per_million", best.flips_per_million, 0


def _of_run(run: RunRecord) -> Iterator[Known]:
    seconds = run.seconds
    yield "seconds.total", seconds, 0
    for stage, took in run.stage_seconds.items():
        yield f"seconds.{stage}", took, 0
    yield "patches", run.patches.classified, 0
    if not run.grid_reused:
        yield "patches_per_second", run.patches.classified / seconds if seconds else None, 0
        yield "km2_per_second", run.shape[0] * run.shape[1] / 10_000 / seconds if seconds else None, 0
    yield "peak_rss_mb", _mega(run.peak_memory_bytes), 0
    yield "output_mb", _mega(sum(file.bytes for file in run.files.values())), 0


def _of_comparison(comparison: ComparisonRecord) -> Iterator[Known]:
    yield "seconds.total", comparison.seconds, 0
    for one in comparison.backends:
        label = one.label.replace(":", "-")
        yield f"patches_per_second.{label}", one.patches_per_second, 0
        yield f"flips_per_million.{label}", one.flips_per_million, 0
        yield f"prob_diff_max.{label}", one.prob_diff_max, 0
        yield f"prob_diff_mean.{label}", one.prob_diff_mean, 0


def _of_evaluation(evaluation: MapEvaluation | PatchEvaluation) -> Iterator[Known]:
    yield "seconds.total", evaluation.seconds, 0
    if isinstance(evaluation, MapEvaluation):
        names = ["pixels", "overall_accuracy", "kappa", "macro"]
    else:
        names = ["patches", "macro", "micro", "patches_per_second", "stage_seconds"]
    fields = asdict(evaluation)
    for name, value in flat({name: fields[name] for name in names}).items():
        if isinstance(value, int | float):
            yield name, value, 0
    for one in evaluation.classes:
        for name, value in vars(one).items():
            if isinstance(value, float):
                yield f"class.{one.class_id}.{name}", value, 0


def _of_export(parity: Parity) -> Iterator[Known]:
    for name in ("max_abs_diff", "mean_abs_diff", "flips_per_million", "tolerance"):
        yield name, parity.get(name), 0


def _mega(count: float | None) -> float | None:
    return None if count is None else count / 1e6


def _thousand(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
