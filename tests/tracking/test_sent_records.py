"""Which records are found, and what the marker beside them remembers."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benexp.records.storage import write_record
from benexp.tracking.sent_records import (
    FoundRecord,
    Sent,
    find,
    forget_parent,
    mark,
    mark_parent,
    parent,
    read,
    samples,
    sent,
)
from tests.records import builders
from tests.tracking.builders import (
    benchmark_record,
    comparison_record,
    failure,
    map_evaluation,
    patch_evaluation,
    run_record,
    sweep_record,
    tile,
)

HERE, THERE = "sqlite:///here.db", "http://there"


def test_a_benchmarks_tiles_and_copies_are_no_records_of_their_own(tmp_path: Path) -> None:
    sweep_record(tmp_path, "jobs/c/1")
    benchmark_record(tmp_path / "jobs" / "c" / "1", tile("a"), tile("b"))
    run_record(tmp_path / "jobs" / "c" / "1" / "other")
    run_record(tmp_path / "x")
    run_record(tmp_path / "mlartifacts" / "copy")
    run_record(tmp_path / "products" / "p.SAFE")
    benchmark_record(tmp_path / "killed", status="unfinished")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "report.json").write_text('["not ours"]')
    (tmp_path / "y" / "run.json").write_text("{half")
    found = {str(record.path.parent.relative_to(tmp_path)): record for record in find(tmp_path)}
    assert {place: record.kind for place, record in found.items()} == {
        **{".": "sweep", "jobs/c/1": "benchmark", "jobs/c/1/other": "classify", "x": "classify"},
    }
    assert next(iter(found)) == "."
    assert (found["jobs/c/1"].sweep, found["x"].sweep) == (tmp_path, None)


def test_a_report_of_an_unknown_version_is_none_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = benchmark_record(tmp_path, tile("a"), schema_version=99)
    assert path not in [record.path for record in find(tmp_path)]
    assert f"{path}: has schema version 99, this benexp reads version 1" in caplog.text


@pytest.mark.parametrize("write", [run_record, comparison_record, map_evaluation, patch_evaluation])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "has schema version 99, this benexp reads version 1"),
        ({"schema_version": None}, "has no schema version, this benexp reads version 1"),
        ({"seconds": "many"}, "Expected `float`, got `str` - at `$.seconds`"),
    ],
)
def test_a_record_that_cannot_be_read_is_skipped_and_the_others_are_found(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    write: Callable[[Path], Path],
    change: dict[str, object],
    message: str,
) -> None:
    path = write(tmp_path / "a")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    other = write(tmp_path / "b")
    assert [record.path for record in find(tmp_path)] == [other]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ") and message in line


def test_nothing_is_sent_of_what_lies_below_a_report_of_an_unknown_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = benchmark_record(tmp_path / "benchmark", tile("a"), tile("b"), schema_version=99)
    assert (path.parent / "a" / "run.json").exists()
    beside = run_record(tmp_path / "c")
    assert [record.path for record in find(tmp_path)] == [beside]
    assert len(caplog.messages) == 1


def test_tiles_of_a_benchmark_that_was_killed_or_kept_its_report_are_no_records(tmp_path: Path) -> None:
    benchmark_record(tmp_path / "killed", tile("a"), status="unfinished")
    kept = builders.job_report([tile("a")], {})
    path = benchmark_record(tmp_path / "failed", tile("a"), status="failed")
    write_record(path, builders.job_report([failure("", "no weights")], {}, status="failed", kept=kept))
    assert [record.path for record in find(tmp_path)] == [path]


def test_only_what_was_written_since_is_found(tmp_path: Path) -> None:
    old = run_record(tmp_path / "old")
    os.utime(old, (0, 0))
    run_record(tmp_path / "new")
    assert [record.path.parent.name for record in find(tmp_path, time.time() - 60)] == ["new"]


def test_a_marker_holds_for_a_record_as_it_is_and_for_one_destination(tmp_path: Path) -> None:
    record = read(run_record(tmp_path))
    assert record
    assert sent(record, HERE) is None
    mark(record, samples=[{"time": 1, "metrics": {}}])
    mark(record, {HERE: Sent("r1", whole=False)})
    assert samples(record)
    mark(record, {HERE: Sent("r1", whole=True)})
    assert sent(record, HERE) == Sent("r1", whole=True)
    assert sent(record, THERE) is None
    assert samples(record) == []
    mark(record, {THERE: Sent("r2", whole=False)})
    assert sent(record, HERE) == Sent("r1", whole=True)
    again = read(run_record(tmp_path, seconds=3.0))
    assert again
    assert sent(again, HERE) is None


def test_a_benchmark_that_took_over_all_its_tiles_is_the_one_that_was_sent(tmp_path: Path) -> None:
    def write(seconds: float, reused: bool, **more: str) -> FoundRecord:
        record = read(benchmark_record(tmp_path, tile("a", seconds, reused=reused), **more))
        assert record
        return record

    mark(write(2.0, False), {HERE: Sent("r1", whole=True)})
    assert sent(write(2.0, True, command="benexp again"), HERE) == Sent("r1", whole=True)
    assert sent(write(2.1, False), HERE) is None
    assert sent(write(2.0, False, config_hash="other"), HERE) is None
    assert sent(write(2.0, True, status="interrupted"), HERE) is None


def test_a_sweeps_run_is_forgotten_when_another_begins(tmp_path: Path) -> None:
    forget_parent(tmp_path, unless=None)
    assert not list(tmp_path.iterdir())
    mark_parent(tmp_path, HERE, "r1", "benexp -m seed=1,2")
    mark_parent(tmp_path, THERE, "r2", None)
    assert (parent(tmp_path, HERE), parent(tmp_path, THERE)) == ("r1", "r2")
    forget_parent(tmp_path, unless="benexp -m seed=1,2")
    assert parent(tmp_path, HERE) == "r1"
    forget_parent(tmp_path, unless="benexp -m seed=1,2,3")
    assert parent(tmp_path, HERE) is None
