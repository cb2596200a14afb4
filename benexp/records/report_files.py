"""The files of a benchmark: `benchmark_report.csv`, a row per run and tile, and `report.json` with everything."""

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.records.job import JobReport
from benexp.records.names import REPORT, TABLE
from benexp.records.storage import decode_record, write_record
from benexp.records.sweep import SweepReport
from benexp.records.tile import DoneTile, TileRecord

log = logging.getLogger("benexp")

STAGES = ("open", "decode", "assemble", "infer", "blend", "write", "report", "integrity")
PERCENTILES = ("p50", "p90", "p99")
MOMENTS = ("start", "end", "peak")
SETTINGS = ("precision", "device", "batch_size", "threads")
COLUMNS = (
    *("tile_name", "processing_time_seconds", "input_size_mb", "output_size_mb", "file_count"),
    *(f"cpu_percent_{moment}" for moment in MOMENTS),
    *(f"memory_mb_{moment}" for moment in MOMENTS),
    *("model", "backend", "provider", "precision", "device", "chunk_size", "patch_size", "stride", "batch_size"),
    *("threads", "repeat", "status", "error"),
    *(f"{stage}_{what}" for stage in STAGES for what in ("seconds", "busy")),
    *("patches", "patches_per_second", "km2_per_second"),
    *(f"batch_latency_{share}_seconds" for share in PERCENTILES),
    *(
        "peak_rss_mb",
        "estimated_rss_mb",
        "peak_of_estimate",
        "peak_device_memory_mb",
        "cpu_joules",
        "device_joules",
        "map_hash",
        "config_hash",
        "verdicts",
    ),
)
"""Sizes are in 10^6 bytes. cpu_percent is of one core. `<stage>_busy` is the stage's seconds, summed over its threads,
as a share of the tile's: above 1 where several threads were at it. Rates are over the whole of the tile's time.
memory_mb_peak is of the tile's time, peak_rss_mb of the process since it started, loading the model included.
Latencies are empty where a tile had too few batches to tell: under 2, 10 and 100 for p50, p90 and p99."""


def row(tile: TileRecord) -> dict[str, Any]:
    """One tile of a report as a row of the table; what is not known is None."""
    found: dict[str, Any] = {
        "tile_name": tile.tile,
        "input_size_mb": _mega(tile.input_bytes),
        "model": tile.model,
        "backend": tile.backend_name,
        "repeat": tile.repeat,
        "status": tile.status,
        "error": tile.error,
        "estimated_rss_mb": _mega(tile.estimate.memory_bytes) if tile.estimate else None,
        "config_hash": tile.config_hash,
    }
    found |= {key: tile.chunking[key] for key in ("chunk_size", "patch_size", "stride")}
    found |= {key: tile.asked.get(key) for key in SETTINGS}
    if isinstance(tile, DoneTile):
        found |= _measured(tile)
    return {column: found.get(column) for column in COLUMNS}


def _measured(tile: DoneTile) -> dict[str, Any]:
    usage = tile.usage
    found: dict[str, Any] = {
        "processing_time_seconds": _rounded(tile.seconds),
        "output_size_mb": _mega(tile.output_bytes),
        "file_count": tile.files,
        "provider": tile.backend.get("provider"),
        "patches": tile.patches,
        "patches_per_second": _rounded(tile.patches_per_second),
        "km2_per_second": _rounded(tile.km2_per_second),
        "peak_rss_mb": _mega(usage.peak_rss_bytes),
        "peak_of_estimate": _rounded(tile.peak_of_estimate),
        "peak_device_memory_mb": _mega(usage.peak.get("device_memory_bytes")),
        "cpu_joules": _rounded(usage.cpu_joules),
        "device_joules": _rounded(usage.device_joules),
        "map_hash": tile.map_hash,
        "verdicts": " ".join(verdict.code for verdict in tile.verdicts),
    }
    # What ran, which may be another than was asked for.
    found |= {key: tile.backend[key] for key in SETTINGS if key in tile.backend}
    for moment, values in zip(MOMENTS, (usage.start, usage.end, usage.peak), strict=True):
        found[f"cpu_percent_{moment}"] = values.get("cpu_percent")
        found[f"memory_mb_{moment}"] = _mega(values.get("rss_bytes"))
    for stage, took in tile.stage_seconds.items():
        found[f"{stage}_seconds"] = took
        found[f"{stage}_busy"] = round(took / tile.seconds, 3)
    for share in PERCENTILES:
        found[f"batch_latency_{share}_seconds"] = _rounded(tile.latency_seconds.get(share))
    return found


def write_report(folder: Path, report: JobReport | SweepReport) -> None:
    """Write the table of the report's tiles, and the report, each whole or not at all."""
    write_table(folder / TABLE, report.tiles)
    write_record(folder / REPORT, report)


def write_table(path: Path, tiles: Sequence[TileRecord]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(map(row, tiles))


def read_report(path: Path) -> JobReport | SweepReport | None:
    """The report in the file `path`; None where there is none, or another program's.

    Raises BenexpError where it is of an unknown version.
    """
    try:
        content = path.read_bytes()
        keys = json.loads(content)
    except (FileNotFoundError, ValueError):
        return None
    if isinstance(keys, dict) and "config_hash" in keys:
        return decode_record(content, JobReport, str(path))
    if isinstance(keys, dict) and "configurations" in keys:
        return decode_record(content, SweepReport, str(path))
    return None


def earlier_report(folder: Path) -> JobReport | None:
    """The job's report that is there, or the one kept in it by a job that failed before it measured anything.

    One of an unknown version is logged, and none.
    """
    try:
        found = read_report(folder / REPORT)
    except BenexpError as error:
        log.warning("%s; its tiles are measured anew", error)
        return None
    return (found.kept or found) if isinstance(found, JobReport) else None


def _mega(count: float | None) -> float | None:
    return None if count is None else round(count / 1e6, 3)


def _rounded(value: float | None) -> float | None:
    """Four digits behind the point, or four that count."""
    return None if value is None else float(f"{value:.4g}") if abs(value) < 1 else round(value, 4)
