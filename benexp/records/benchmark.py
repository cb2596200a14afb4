"""What a benchmark leaves behind: `benchmark_report.csv`, a row per run and tile, and `report.json` with everything."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benexp.core.files import replacing

TABLE = "benchmark_report.csv"
REPORT = "report.json"
STAGES = ("open", "decode", "assemble", "infer", "blend", "write", "report", "integrity")
PERCENTILES = ("p50", "p90", "p99")
MOMENTS = ("start", "end", "peak")
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


def row(tile: Mapping[str, Any]) -> dict[str, Any]:
    """One tile of a report as a row of the table; what is not known is None."""
    usage, backend = tile.get("usage") or {}, tile.get("backend") or {}
    stages, latencies = tile.get("stage_seconds") or {}, tile.get("latency_seconds") or {}
    seconds, patches, km2 = tile.get("seconds"), tile.get("patches"), tile.get("km2")

    def of(moment: str, name: str) -> Any:
        return usage.get(moment, {}).get(name)

    found: dict[str, Any] = {
        "tile_name": tile["tile"],
        "processing_time_seconds": _rounded(seconds),
        "input_size_mb": _mega(tile.get("input_bytes")),
        "output_size_mb": _mega(tile.get("output_bytes")),
        "file_count": tile.get("files"),
        "model": tile["model"],
        "backend": tile["backend_name"],
        "provider": backend.get("provider"),
        "repeat": tile["repeat"],
        "status": tile["status"],
        "error": tile["error"],
        "patches": patches,
        "patches_per_second": _rounded(patches / seconds) if patches is not None and seconds else None,
        "km2_per_second": _rounded(km2 / seconds) if km2 is not None and seconds else None,
        "peak_rss_mb": _mega(usage.get("peak_rss_bytes")),
        "estimated_rss_mb": _mega((tile.get("estimate") or {}).get("memory_bytes")),
        "peak_of_estimate": _rounded(of_estimate(tile)),
        "peak_device_memory_mb": _mega(of("peak", "device_memory_bytes")),
        "cpu_joules": _rounded(usage.get("cpu_joules")),
        "device_joules": _rounded(usage.get("device_joules")),
        "map_hash": tile.get("map_hash"),
        "config_hash": tile["config_hash"],
        "verdicts": " ".join(verdict["code"] for verdict in tile.get("verdicts") or ()),
    }
    for key in ("chunk_size", "patch_size", "stride"):
        found[key] = tile["chunking"][key]
    for key in ("precision", "device", "batch_size", "threads"):
        # What ran, which may be another than was asked for.
        found[key] = backend.get(key, tile["asked"].get(key))
    for moment in MOMENTS:
        found[f"cpu_percent_{moment}"] = of(moment, "cpu_percent")
        found[f"memory_mb_{moment}"] = _mega(of(moment, "rss_bytes"))
    for stage in STAGES:
        took = stages.get(stage)
        found[f"{stage}_seconds"] = took
        found[f"{stage}_busy"] = round(took / seconds, 3) if took is not None and seconds else None
    for share in PERCENTILES:
        found[f"batch_latency_{share}_seconds"] = _rounded(latencies.get(share))
    return {column: found[column] for column in COLUMNS}


def of_estimate(tile: Mapping[str, Any]) -> float | None:
    """The largest memory of the process, as a share of what was estimated; None where either is not known."""
    peak = (tile.get("usage") or {}).get("peak_rss_bytes")
    expected = (tile.get("estimate") or {}).get("memory_bytes")
    return peak / expected if peak and expected else None


def write_table(path: Path, tiles: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(map(row, tiles))


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """The table of the report's tiles, and the report, each whole or not at all."""
    write_table(folder / TABLE, report["tiles"])
    with replacing(folder / REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")


def earlier_report(folder: Path) -> dict[str, Any]:
    """The report that is there, or the one kept in it by a job that failed before it measured anything.

    Nothing where there is none, or another program's.
    """
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not (isinstance(found, dict) and "config_hash" in found):
        return {}
    return found.get("kept") or found


def _mega(count: float | None) -> float | None:
    return None if count is None else round(count / 1e6, 3)


def _rounded(value: float | None) -> float | None:
    """Four digits behind the point, or four that count."""
    return None if value is None else float(f"{value:.4g}") if abs(value) < 1 else round(value, 4)
