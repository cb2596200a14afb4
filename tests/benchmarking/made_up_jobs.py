"""Folders of a sweep's jobs as benchmarks leave them: small grids, any times."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benexp.benchmarking.sweep_report import join
from benexp.config.hashing import digest
from benexp.mapping.grid import CLASSIFIED, VALID, PatchGrid, ProbabilityGrid
from benexp.records.figures import Verdict
from benexp.records.job import JobReport, totals_of
from benexp.records.run import PixelCounts
from benexp.records.storage import read_record, write_record
from benexp.runs.publishing import describe_file
from tests.records.builders import done_tile, grid_origin, job_report, model_record, run_record, usage

FOUR = [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.50, 0.45, 0.1], [0.1, 0.1, 0.9]]
"""Probabilities of three classes in four patches of 2 x 2 pixels: a tile of 16 pixels."""
TIE = [*FOUR[:2], [0.45003, 0.45004, 0.1], FOUR[3]]
"""Another class in the third patch, whose two best were .05 apart."""
FLIP = [[0.1, 0.9, 0.1], *FOUR[1:]]
"""Another class in the first patch, beyond any doubt."""

CONFIG: dict[str, Any] = {
    "backend": {"_target_": "benexp.backends.torch.TorchBackend", "batch_size": 32, "precision": "fp32"},
    "chunking": {"chunk_size": 2048, "stride": 2, "patch_size": 2, "blend": "flat"},
    "model": {"name": "demo"},
    "export": {"tolerance": {"fp32": 0.0001, "int8": 0.5}},
    "benchmark": {"repeat": 1, "unstable": 0.05},
    "recommend": {"max_memory_gb": None, "max_flips_per_million": None},
    "output_folder": "somewhere",
}


def write_job(
    folder: Path,
    seconds: float = 1.0,
    *,
    repeat: int = 1,
    backend: str = "torch",
    precision: str = "fp32",
    chunk: int = 2048,
    batch: int = 32,
    gb: float = 1.0,
    answers: Sequence[Sequence[float]] = FOUR,
    verdicts: Sequence[Verdict] = (),
    sweep: str = "this one",
    **recommend: float,
) -> Path:
    """Write a job of the tiles a and b, of which the second has these answers; its folder."""
    config = json.loads(json.dumps(CONFIG))
    config["chunking"]["chunk_size"] = chunk
    config["backend"] |= {"batch_size": batch, "precision": precision, "_target_": backend}
    config["benchmark"]["repeat"], config["output_folder"] = repeat, f"jobs/{chunk}/{repeat}"
    config["recommend"] |= recommend
    config_hash = digest([chunk, batch, backend, precision])
    job = folder / "jobs" / config_hash[:12] / str(repeat)
    asked = {
        **{"backend_name": backend, "repeat": repeat, "config_hash": config_hash, "asked": config["backend"]},
        **{"chunking": config["chunking"], "sweep": sweep},
    }
    described = {"precision": precision, "batch_size": batch, "threads": 2, "device": "cpu", "fallback": None}
    used = usage(
        peak={"rss_bytes": round(gb * 1e9 / 2)},
        peak_rss_bytes=round(gb * 1e9),
        over_time={"seconds": [0.0, seconds], "rss_bytes": [10**8, round(gb * 1e9)]},
    )
    tiles = [
        done_tile(
            tile,
            seconds / 2,
            **asked,
            **{"patches": 50, "km2": 1.0, "stage_seconds": {"decode": 0.1, "infer": seconds / 4}},
            map_hash=_write_tile(job / tile, config, grid),
            backend=described,
            usage=used,
            latency_seconds={"p50": seconds / 100, "p90": None, "p99": None},
            latency_histogram={-60: 3, -50: 7},
            verdicts=list(verdicts),
        )
        for tile, grid in (("a", FOUR), ("b", answers))
    ]
    write_record(job / "report.json", job_report(tiles, config, config_hash=config_hash, repeat=repeat))
    return job


def _write_tile(folder: Path, config: dict[str, Any], answers: Sequence[Sequence[float]]) -> str:
    """The map's hash: that of which class is the best where."""
    folder.mkdir(parents=True)
    grid = ProbabilityGrid.empty(PatchGrid((2, 8), 2, 2), 3)
    grid.probabilities[0] = answers
    grid.patch_states[:], grid.pixel_states[:] = CLASSIFIED, VALID
    path = folder / f"{folder.name}_grid.npz"
    grid.save(path, grid_origin("key"))
    map_hash = digest(grid.probabilities.argmax(axis=-1).tolist())
    record = run_record(
        **{"tile": folder.name, "map_hash": map_hash, "grid_key": "key", "shape": (2, 8), "valid_pixels": 16},
        pixels=PixelCounts.of(16, 16, 16),
        **{"model": model_record(classes=("a", "b", "c")), "config": config, "grid": describe_file(path)},
        tile_shape=(2, 8),
    )
    write_record(folder / "run.json", record)
    return map_hash


def report_of(job: Path) -> JobReport:
    return read_record(job / "report.json", JobReport)


def change(job: Path, **values: Any) -> None:
    """Change a job's report; other tiles change the totals, too."""
    if "tiles" in values:
        values = {"totals": totals_of(values["tiles"])} | values
    write_record(job / "report.json", replace(report_of(job), **values))


def reports(folder: Path) -> list[Path]:
    """Those of all jobs, in the order in which they were written."""
    return sorted(folder.glob("jobs/*/*/report.json"), key=lambda path: path.stat().st_mtime_ns)


def joined(folder: Path, expected: bool = True) -> dict[str, Any]:
    """The report of the sweep; its configurations by name."""
    assert join(folder, reports(folder), lambda _: None) is expected
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    report["configurations"] = {one["configuration"]: one for one in report["configurations"]}
    return report
