"""The agreement of a sweep's maps, on made-up jobs."""

import logging
from pathlib import Path

import pytest

from tests.benchmarking.made_up_jobs import FLIP, FOUR, TIE, joined, write_job

pytestmark = pytest.mark.usefixtures("no_plots")


def test_maps_never_depend_on_the_chunk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_job(tmp_path)
    write_job(tmp_path, chunk=512)
    write_job(tmp_path, chunk=1024, answers=TIE)
    with caplog.at_level(logging.ERROR):
        report = joined(tmp_path, expected=False)
    (problem,) = report["problems"]
    assert problem.startswith("b: the map of chunking.chunk_size=1024 benchmark.repeat=1 is not that of chunking.chunk")
    assert problem in caplog.text
    assert report["status"] == "failed"
    assert {one["left_out"] for one in report["configurations"].values()} == {"its maps disagree"}


def test_the_same_job_gives_the_same_map(tmp_path: Path) -> None:
    write_job(tmp_path, repeat=1)
    write_job(tmp_path, repeat=2, answers=FLIP)
    (problem,) = joined(tmp_path, expected=False)["problems"]
    assert "benchmark.repeat=2 is not that of chunking.chunk_size=2048 benchmark.repeat=1" in problem


def test_across_batches_only_ties_may_differ(tmp_path: Path) -> None:
    tie, flip = tmp_path / "tie", tmp_path / "flip"
    before = [*FOUR[:2], [0.45004, 0.45003, 0.1], FOUR[3]]
    write_job(tie, answers=before)
    write_job(tie, batch=8, answers=TIE)
    report = joined(tie)
    second = report["configurations"]["torch, batch 8"]
    assert (second["flips_per_million"], second["beyond_ties_per_million"]) == (125_000, 0)
    write_job(flip, answers=FOUR)
    write_job(flip, batch=8, answers=TIE)
    write_job(flip, batch=16)
    report = joined(flip, expected=False)
    (problem,) = report["problems"]
    assert problem.startswith("b: the map of batches of 8 with 2 threads is not that of batches of 32 with 2 threads: ")
    assert "2.5e+05 pixels per million" in problem and "0.0001, which fp32" in problem
    assert report["configurations"]["torch, batch 8"]["problems"] == [problem]


def test_a_precision_has_its_own_tolerance(tmp_path: Path) -> None:
    write_job(tmp_path, precision="int8")
    write_job(tmp_path, precision="int8", batch=8, answers=TIE)
    report = joined(tmp_path)
    assert report["reference"]["why"].endswith("as it is int8")
    # Within .5, but not a tie as fp32 counts them.
    assert report["configurations"]["torch, batch 8"]["beyond_ties_per_million"] == 125_000


@pytest.mark.parametrize("name", ["b_grid.npz", "run.json"])
def test_a_grid_that_is_not_the_maps_is_a_problem(tmp_path: Path, name: str) -> None:
    """It cannot be shown any more that only ties differ."""
    write_job(tmp_path)
    job = write_job(tmp_path, batch=8, answers=TIE)
    other = write_job(tmp_path / "other", answers=FLIP)
    (other / "b" / name).replace(job / "b" / name)
    report = joined(tmp_path, expected=False)
    assert len(report["problems"]) == 2
    for problem in report["problems"]:
        assert f"{job / 'b'}/" in problem and "measure it again with resume=false" in problem
    found = report["configurations"]["torch, batch 8"]
    assert found["flips_per_million"] is None
    assert name in found["flips_unknown"]


def test_a_grid_that_was_altered_behind_equal_hashes_is_a_problem(tmp_path: Path) -> None:
    write_job(tmp_path, repeat=1)
    job = write_job(tmp_path, repeat=2)
    other = write_job(tmp_path / "other", answers=FLIP)
    (other / "b" / "b_grid.npz").replace(job / "b" / "b_grid.npz")
    report = joined(tmp_path, expected=False)
    (problem,) = report["problems"]
    assert problem.startswith(f"{job / 'b' / 'b_grid.npz'}: is not what the map was made of")
    assert report["recommendation"]["configuration"] is None


def test_a_grid_that_was_deleted_is_missed_where_it_is_needed(tmp_path: Path) -> None:
    for batch in (32, 8):
        (write_job(tmp_path, batch=batch) / "b" / "b_grid.npz").unlink()
    joined(tmp_path)
    (write_job(tmp_path, precision="int8", answers=FLIP) / "b" / "b_grid.npz").unlink()
    found = joined(tmp_path)["configurations"]["torch, int8, batch 32"]
    assert "b_grid.npz: cannot be read" in found["flips_unknown"]
    assert found["flips_per_million"] is None
