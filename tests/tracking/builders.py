"""Made-up records, as tasks write them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benexp.measure.environment import environment
from benexp.records.figures import Interval, Verdict
from benexp.records.storage import write_record
from benexp.records.tile import DoneTile, FailedTile, TileRecord, done_tiles
from tests.records.builders import ceiling, configuration, done_tile, failed_tile, job_report, sweep_report, usage

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


def tile(name: str, seconds: float = 2.0, **more: Any) -> DoneTile:
    """A tile of a benchmark's report."""
    known: dict[str, Any] = {"backend_name": "null", "backend": {"provider": "none"}, "usage": usage(cpu_joules=5.0)}
    return done_tile(name, seconds, verdicts=[Verdict("other-load", "warning", "busy")], **known | more)


def failure(name: str, error: str) -> FailedTile:
    return failed_tile(name, error, backend_name="null")


def benchmark_record(folder: Path, *tiles: TileRecord, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {"config": CONFIG, "command": COMMAND, "repeat": 2, "environment": environment() | MACHINE}
    path = folder / "report.json"
    write_record(path, job_report(tiles, **known | {"ceiling": ceiling(1, 2.0, km2=18.0)} | more))
    for one in done_tiles(list(tiles)):
        run_record(folder / one.folder)
    return path


def sweep_record(folder: Path, *jobs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    speed = Interval(20.0, None, None, 1)
    one = configuration("c", patches_per_second=speed, memory_bytes=10**8, flips_per_million=7.0)
    report = sweep_report(one, recommended="c", jobs=list(jobs), environment=environment() | MACHINE)
    report = replace(report, recommendation=replace(report.recommendation, sentence="fastest: null"))
    path = folder / "report.json"
    write_record(path, report)
    return path
