"""Made-up records, as tasks write them."""

import json
from pathlib import Path
from typing import Any

CONFIG = {
    "task": {"name": "classify"},
    "chunking": {"chunk_size": 2048, "stride": 60},
    "backend": {"_target_": "benexp.backends.null.NullBackend", "batch_size": 32, "precision": "fp32"},
    "mask": {"scl": [3, 8]},
    "layers": {"extra": {}},
    "tracking": {"name": "mlflow", "uri": "http://secret"},
    "tile_folder": None,
}
COMMAND = "benexp tile_folder=a"
MACHINE = {"machine": "abc", "git_revision": "1234567", "gpus": [], "benexp": "0.1.0"}


def run_record(folder: Path, **more: Any) -> Path:
    """A tile's run.json, with a raster of 3 kB and a page beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a_class.tif").write_bytes(b"t" * 3000)
    (folder / "viewer.html").write_text("<p>map</p>")
    record = {
        **{"tile": "a", "shape": [100, 200], "command": COMMAND, "config": CONFIG, "config_hash": "c", "map_hash": "5"},
        **{"patches": {"all": 50, "classified": 40}, "peak_memory_bytes": 2 * 10**8, "environment": MACHINE},
        **{"grid_reused": False, "backend": {"provider": "none"}, "model": {"name": "demo"}},
        **{"seconds": 2.0, "stage_seconds": {"infer": 1.5}},
        "files": {"a_class.tif": {"bytes": 3000}, "viewer.html": {"bytes": 10}},
    }
    path = folder / "run.json"
    path.write_text(json.dumps(record | more))
    return path


def tile(name: str, seconds: float = 2.0, **more: Any) -> dict[str, Any]:
    """A tile of a benchmark's report."""
    usage = {"peak": {"rss_bytes": 10**7}, "peak_rss_bytes": 10**8, "cpu_joules": 5.0, "device_joules": None}
    return {
        **{"tile": name, "status": "done", "error": None, "model": "demo", "backend_name": "null", "map_hash": "5"},
        **{"seconds": seconds, "stage_seconds": {"infer": seconds / 2}, "patches": 40, "km2": 2.0, "usage": usage},
        **{"latency_seconds": {"p50": seconds / 1000, "p90": None, "p99": None}, "backend": {"provider": "none"}},
        "verdicts": [{"code": "other-load", "severity": "warning", "sentence": "busy"}],
        **more,
    }


def benchmark_record(folder: Path, *tiles: dict[str, Any], **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    done = [one for one in tiles if one["status"] == "done"]
    seconds = sum(one["seconds"] for one in done)
    report = {
        **{"status": "done", "command": COMMAND, "config": CONFIG, "config_hash": "c", "repeat": 2},
        **{"environment": MACHINE, "startups": [{"open_seconds": {"load": 0.5}}], "tiles": list(tiles)},
        "totals": {
            **{"done": len(done), "failed": len(tiles) - len(done), "seconds": seconds, "peak_rss_bytes": 10**8},
            **{"patches_per_second": 20.0, "km2_per_second": 1.0},
        },
        "ceiling": {"totals": {"km2_per_second": 9.0}},
    }
    path = folder / "report.json"
    path.write_text(json.dumps(report | more))
    for one in done:
        run_record(folder / one["tile"])
    return path


def sweep_record(folder: Path, *jobs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    one = {"config_hash": "c", "patches_per_second": {"median": 20.0}, "memory_bytes": 10**8, "flips_per_million": 7.0}
    report = {
        **{"status": "done", "environment": MACHINE, "jobs": list(jobs), "configurations": [one], "tiles": []},
        **{"problems": [], "recommendation": {"config_hash": "c", "sentence": "fastest: null"}},
    }
    path = folder / "report.json"
    path.write_text(json.dumps(report))
    return path
