"""The joint report of a sweep, on made-up jobs."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benexp.config import digest
from benexp.tasks.joint import disagreements, join

CONFIG = {
    "backend": {"_target_": "benexp.backends.null.NullBackend", "batch_size": 32},
    "chunking": {"chunk_size": 2048, "stride": 60, "patch_size": 120},
    "benchmark": {"repeat": 1, "unstable": 0.05},
    "output_folder": "somewhere",
}


def job(seconds: float = 1.0, *, repeat: int = 1, chunk: int = 2048, batch: int = 32, **more: Any) -> dict[str, Any]:
    """A job of two tiles of 50 patches each."""
    config = json.loads(json.dumps(CONFIG))
    config["chunking"]["chunk_size"], config["backend"]["batch_size"] = chunk, batch
    config["benchmark"]["repeat"], config["output_folder"] = repeat, f"jobs/{chunk}/{repeat}"
    config_hash = digest([chunk, batch])
    tile = {
        **{"tile": "a", "product": "in/a", "status": "done", "error": None, "map_hash": "5", "model": "demo"},
        **{"backend_name": "null", "repeat": repeat, "config_hash": config_hash, "asked": config["backend"]},
        **{"chunking": config["chunking"], "patches": 50, "km2": 1.0, "seconds": seconds / 2},
    }
    return {
        **{"status": "done", "repeat": repeat, "config": config, "config_hash": config_hash},
        "totals": {"seconds": seconds, "peak_rss_bytes": 10**9 * repeat},
        "tiles": [tile, tile | {"tile": "b", "product": "in/b"}],
        **more,
    }


def write(folder: Path, *jobs: dict[str, Any]) -> None:
    for found in jobs:
        path = folder / "jobs" / found["config_hash"][:12] / str(found["repeat"]) / "report.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(found))


def test_configurations_have_medians_spread_and_a_comparison_with_the_first(tmp_path: Path) -> None:
    old = job(99, chunk=512)
    write(tmp_path, old)
    stale = next(tmp_path.rglob("report.json"))
    os.utime(stale, (0, 0))
    times = {2048: (2.0, 2.04, 1.96), 1024: (4.0, 4.02, 5.9)}
    write(tmp_path, *(job(s, repeat=r, chunk=c) for c, several in times.items() for r, s in enumerate(several, 1)))
    write(tmp_path, job(1.0, batch=8, status="failed"))
    said: list[str] = []
    assert join(tmp_path, time.time() - 60, said.append)
    report = json.loads((tmp_path / "report.json").read_text())
    # A job failed; the one of an earlier sweep is none of this one.
    assert report["status"] == "failed"
    found = {one["configuration"]: one for one in report["configurations"]}
    assert set(found) == {
        *("backend.batch_size=32 chunking.chunk_size=2048", "backend.batch_size=32 chunking.chunk_size=1024"),
        "backend.batch_size=8 chunking.chunk_size=2048",
    }
    first = found["backend.batch_size=32 chunking.chunk_size=2048"]
    assert (first["median"]["median"], first["peak_rss_bytes"], first["patches"]) == (2.0, 3 * 10**9, 100)
    assert first["verdicts"] == []
    slow = found["backend.batch_size=32 chunking.chunk_size=1024"]
    assert [verdict["code"] for verdict in slow["verdicts"]] == ["unstable"]
    failed = found["backend.batch_size=8 chunking.chunk_size=2048"]
    assert (failed["failed"], failed["median"], failed["against_first"]) == ([1], None, None)
    assert any("50.0 patches/s" in line for line in said)
    assert any("no run of it was finished" in line for line in said)


def test_one_configuration_is_no_different_from_itself(tmp_path: Path) -> None:
    jobs = [job(2.0, repeat=1), job(2.02, repeat=2), job(1.99, repeat=3)]
    again = [job(2.01, repeat=1, chunk=1024), job(2.0, repeat=2, chunk=1024), job(2.0, repeat=3, chunk=1024)]
    write(tmp_path, *jobs, *again)
    assert join(tmp_path, 0, lambda _: None)
    second = json.loads((tmp_path / "report.json").read_text())["configurations"][1]
    assert second["against_first"].startswith("no difference")


def test_maps_may_depend_on_the_batch_and_never_on_the_chunk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = job(chunk=1024)
    other["tiles"][1]["map_hash"] = "6"
    assert disagreements([job(), other | {"tiles": other["tiles"][:1]}]) == []
    batched = job(batch=8)
    batched["tiles"][1]["map_hash"] = "6"
    assert disagreements([job(), batched]) == []
    (problem,) = disagreements([job(), other])
    assert problem.startswith("b: the map of chunking.chunk_size=1024 benchmark.repeat=1 is not that of chunking.chunk")
    write(tmp_path, job(), other)
    with caplog.at_level(logging.ERROR):
        assert not join(tmp_path, 0, lambda _: None)
    assert problem in caplog.text
    assert json.loads((tmp_path / "report.json").read_text())["problems"] == [problem]


def test_without_jobs_nothing_is_written(tmp_path: Path) -> None:
    assert join(tmp_path, 0, lambda _: None)
    assert not list(tmp_path.iterdir())
