"""Folders of a sweep's jobs as benchmarks leave them: small grids, any times."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benexp.config.hashing import digest
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.measure.environment import environment
from benexp.runs.outputs import describe_file

FOUR = [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.50, 0.45, 0.1], [0.1, 0.1, 0.9]]
"""Probabilities of three classes in four patches of 2 x 2 pixels: a tile of 16 pixels."""

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
    verdicts: Sequence[dict[str, str]] = (),
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
    tiles = [
        {
            **{"tile": tile, "product": f"in/{tile}", "status": "done", "error": None, "model": "demo"},
            **{"backend_name": backend, "repeat": repeat, "config_hash": config_hash, "asked": config["backend"]},
            **{"chunking": config["chunking"], "patches": 50, "km2": 1.0, "seconds": seconds / 2},
            "backend": {"precision": precision, "batch_size": batch, "threads": 2, "device": "cpu", "fallback": None},
            "map_hash": _write_tile(job / tile, config, grid),
            "stage_seconds": {"decode": 0.1, "infer": seconds / 4},
            "usage": {
                "peak": {"rss_bytes": round(gb * 1e9 / 2)},
                "peak_rss_bytes": round(gb * 1e9),
                "over_time": {"seconds": [0.0, seconds], "rss_bytes": [1e8, gb * 1e9]},
            },
            **{"latency_seconds": {"p50": seconds / 100}, "latency_histogram": {"-60": 3, "-50": 7}},
            **{"verdicts": list(verdicts), "sweep": sweep},
        }
        for tile, grid in (("a", FOUR), ("b", answers))
    ]
    report = {
        **{"status": "done", "error": None, "repeat": repeat, "config": config, "config_hash": config_hash},
        **{"totals": {"seconds": seconds}, "tiles": tiles, "ceiling": None},
        "environment": environment(),
    }
    (job / "report.json").write_text(json.dumps(report))
    return job


def _write_tile(folder: Path, config: dict[str, Any], answers: Sequence[Sequence[float]]) -> str:
    """The map's hash: that of which class is the best where."""
    folder.mkdir(parents=True)
    grid = ProbabilityGrid.empty(PatchGrid((2, 8), 2, 2), 3)
    grid.probabilities[0] = answers
    grid.classified[:] = grid.valid[:] = True
    path = folder / f"{folder.name}_grid.npz"
    grid.save(path, {"grid_key": "key"})
    map_hash = digest(grid.probabilities.argmax(axis=-1).tolist())
    record = {
        **{"tile": folder.name, "map_hash": map_hash, "grid_key": "key", "shape": [2, 8], "valid_pixels": 16},
        **{"model": {"classes": ["a", "b", "c"]}, "config": config, "files": {path.name: describe_file(path)}},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return map_hash


def change(job: Path, **values: Any) -> None:
    """Change what a job's report says."""
    path = job / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def reports(folder: Path) -> list[Path]:
    """Those of all jobs, in the order in which they were written."""
    return sorted(folder.glob("jobs/*/*/report.json"), key=lambda path: path.stat().st_mtime_ns)
