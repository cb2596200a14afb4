"""Rows of the benchmark's table."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benexp.core.errors import BenexpError
from benexp.records.figures import Verdict
from benexp.records.job import totals_of
from benexp.records.report_files import COLUMNS, earlier_report, read_report, row, write_report, write_table
from benexp.records.storage import to_dict
from tests.records.builders import done_tile, failed_tile, job_report, usage

KNOWN: dict[str, Any] = {
    **{"tile": "a, b", "model": "demo", "backend_name": "torch", "repeat": 2, "config_hash": "c0"},
    "chunking": {"chunk_size": 512, "patch_size": 120, "stride": 60},
    "asked": {"precision": "bf16", "device": "cuda", "batch_size": "auto", "threads": None},
}
DONE: dict[str, Any] = {
    **{"seconds": 4.0, "patches": 100, "km2": 10.0, "files": 3},
    **{"input_bytes": 2_000_000, "output_bytes": 1_500_000, "map_hash": "5"},
    "stage_seconds": {"open": 0.1, "decode": 8.0, "infer": 2.0, "read": 3.0},
    "latency_seconds": {"p50": 0.00012344, "p90": 0.5, "p99": None},
    "backend": {"precision": "fp32", "device": "cpu", "batch_size": 64, "threads": 4, "provider": "cpu"},
    "usage": usage(
        start={"rss_bytes": 1_000_000},
        end={"rss_bytes": 2_000_000, "cpu_percent": 50.0},
        peak={"rss_bytes": 3_000_000, "cpu_percent": 400.0, "device_memory_bytes": 7_000_000},
        **{"peak_rss_bytes": 5_000_000, "cpu_joules": None, "device_joules": 12.34567},
    ),
    "verdicts": [Verdict("fallback", "warning", "it ran on cpu"), Verdict("too-short", "note", "too short")],
}


def test_a_row_says_what_ran_not_what_was_asked() -> None:
    found = row(done_tile(**KNOWN | DONE))
    assert tuple(found) == COLUMNS
    assert [found[key] for key in ("precision", "device", "batch_size", "threads")] == ["fp32", "cpu", 64, 4]
    assert (found["patches_per_second"], found["km2_per_second"]) == (25.0, 2.5)
    # Eight seconds of several threads within four: two were busy. A stage that never was is unknown.
    assert (found["decode_busy"], found["infer_busy"], found["blend_busy"]) == (2.0, 0.5, None)
    assert (found["batch_latency_p50_seconds"], found["batch_latency_p99_seconds"]) == (0.0001234, None)
    assert [found[f"memory_mb_{moment}"] for moment in ("start", "end", "peak")] == [1.0, 2.0, 3.0]
    # Loading the model took more than the tile did.
    assert found["peak_rss_mb"] == 5.0
    assert [found[f"cpu_percent_{moment}"] for moment in ("start", "end", "peak")] == [None, 50.0, 400.0]
    assert (found["peak_device_memory_mb"], found["cpu_joules"]) == (7.0, None)
    assert found["device_joules"] == pytest.approx(12.3457)
    assert found["verdicts"] == "fallback too-short"


def test_a_failed_tile_is_a_row_with_its_reason_and_what_was_asked(tmp_path: Path) -> None:
    failed = failed_tile(**KNOWN, error='no "B02", sorry')
    write_table(tmp_path / "t.csv", [failed, done_tile(**KNOWN | DONE)])
    with (tmp_path / "t.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["status"], first["error"]) == ("failed", 'no "B02", sorry')
    assert [first[key] for key in ("precision", "batch_size", "chunk_size", "patches")] == [
        *("bf16", "auto", "512"),
        "",
    ]
    assert second["tile_name"] == "a, b"
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_an_earlier_report_is_read_unless_its_version_is_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"backend": {"batch_size": 32}}
    made = job_report([done_tile("a"), failed_tile("b", "no B02")], config)
    write_report(tmp_path, made)
    assert read_report(tmp_path / "report.json") == earlier_report(tmp_path) == made
    # One that failed before it measured anything keeps what was measured before.
    write_report(tmp_path, job_report([failed_tile("", "no weights")], config, totals=None, kept=made))
    assert earlier_report(tmp_path) == made
    write_report(tmp_path, replace(made, schema_version=99))
    assert earlier_report(tmp_path) is None
    assert caplog.messages == [
        f"{tmp_path / 'report.json'}: has schema version 99, this benexp reads version 1: read it with the benexp that "
        "wrote it, or run again; its tiles are measured anew"
    ]


@pytest.mark.parametrize("content", ["{half", '["not ours"]', '{"status": "done"}'])
def test_a_report_of_another_program_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    assert read_report(tmp_path / "report.json") is None


def test_a_tile_without_its_seconds_is_refused(tmp_path: Path) -> None:
    content = to_dict(job_report([done_tile("a")], {}))
    del content["tiles"][0]["seconds"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(BenexpError, match=r"is no JobReport: .*missing required field `seconds`"):
        read_report(tmp_path / "report.json")


def test_the_totals_are_those_of_the_tiles_that_are_done() -> None:
    tiles = [done_tile("a", 2.0, patches=40, km2=2.0), failed_tile("b", "no"), done_tile("c", 3.0, patches=60, km2=3.0)]
    found = totals_of(tiles)
    assert (found.done, found.failed, found.seconds) == (2, 1, 5.0)
    assert (found.patches_per_second, found.km2_per_second, found.peak_rss_bytes) == (20.0, 1.0, 10**8)
    assert totals_of(tiles[1:2]).patches_per_second is None
