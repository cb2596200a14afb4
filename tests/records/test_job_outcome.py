"""The outcomes of jobs: written as files, and read in the order of the jobs."""

from dataclasses import replace
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.records.job_outcome import JobOutcome, read_outcomes, write_outcome

OUTCOME = JobOutcome(job=10, task="benchmark", overrides=["seed=1"], report="/out/report.json", replaces=[1, 2])


def test_outcomes_are_read_as_they_were_written_in_the_order_of_jobs(tmp_path: Path) -> None:
    failed = replace(OUTCOME, job=2, status="failed", error="not today", logged=True)
    for outcome in (OUTCOME, failed, replace(OUTCOME, status="done", objective=2.5)):
        write_outcome(tmp_path / "sweep", outcome)
    (tmp_path / "sweep" / "3.partial-1a2b3c4d.json").write_text("{")
    assert read_outcomes(tmp_path / "sweep") == [failed, replace(OUTCOME, status="done", objective=2.5)]


def test_a_sweep_without_jobs_has_no_outcomes(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path / "none") == []


def test_another_file_in_the_place_of_an_outcome_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text("{}")
    with pytest.raises(BenexpError, match=r"0\.json: has no schema version"):
        read_outcomes(tmp_path)
