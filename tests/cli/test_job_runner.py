"""Jobs of sweeps: on launchers that run them in other processes, with Optuna, and jobs that fail."""

from pathlib import Path

import pytest

from tests.benchmarking.builders import report, start, table
from tests.cli.sweeps import Speeds, outcomes

SWEPT = ("-m", "chunking.patch_size=120,60", "chunking.stride=60", "benchmark.repeat=1,2")
REFUSED = "chunking.patch_size=60"


SEEN = (("120", "done"), ("60", "failed"))


def check_swept(out: Path, said: str) -> None:
    """Two of four jobs failed, each with its reason, and the others are in the report."""
    assert [(job.status, job.objective is not None) for job in outcomes(out)] == [("done", True), ("failed", False)] * 2
    assert all(REFUSED in str(job.error) for job in outcomes(out)[1::2])
    rows = sorted((row["patch_size"], row["repeat"], row["status"]) for row in table(out))
    assert rows == [(size, repeat, status) for size, status in SEEN for repeat in "12"]


def test_four_jobs_at_once_with_joblib(products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert start(products, tmp_path, *SWEPT, "hydra/launcher=joblib", "hydra.launcher.n_jobs=4") == 1
    check_swept(tmp_path, caplog.text)
    # In the workers, too, it is known, and never taken for the time of a job alone.
    assert {report(path.parent).get("side_by_side") for path in tmp_path.glob("jobs/*/*/report.json")} == {True, None}
    assert caplog.text.count("joblib runs jobs side by side, which disturb each other's times") == 1


@pytest.mark.long
def test_four_jobs_at_once_with_submitit(products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert start(products, tmp_path, *SWEPT, "hydra/launcher=submitit_local") == 1
    check_swept(tmp_path, caplog.text)
    assert "submitit_local runs jobs side by side" in caplog.text


TRIALS = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=1")


def test_optuna_finds_the_fastest_and_takes_failures(
    products: Path, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    speeds.update({512: 10.0, 2048: 30.0})
    # As many as it takes to try each of the three.
    assert start(products, tmp_path, *TRIALS, "hydra.sweeper.n_trials=6", "chunking.chunk_size=512,1024,2048") == 1
    assert {job.objective for job in outcomes(tmp_path)} == {None, 10.0, 30.0}
    said = capsys.readouterr().out
    assert "best of the trials: 30.0 patches/s with chunking.chunk_size=2048" in said
    assert "job 6 of 6: chunking.chunk_size=" in said
    assert "float-castable" not in caplog.text


def test_optuna_without_any_objective_is_one_more_line(
    products: Path, tmp_path: Path, speeds: Speeds, caplog: pytest.LogCaptureFixture
) -> None:
    assert start(products, tmp_path, *TRIALS, "hydra.sweeper.n_trials=2", "chunking.chunk_size=512,1024") == 1
    assert "hydra/sweeper=optuna: no trial came to its objective" in caplog.text
    assert [job.status for job in outcomes(tmp_path)] == ["failed"] * 2


def test_an_output_folder_that_cannot_be_written_is_one_line(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert start(products, tmp_path / "file" / "out", "-m", "benchmark.repeat=1,2") == 1
    (record,) = caplog.records
    assert str(tmp_path / "file") in record.getMessage()


def test_an_empty_input_folder_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert start(tmp_path / "in", tmp_path / "out", "-m", "benchmark.repeat=1,2") == 1
    assert [(row["status"], "holds no products" in row["error"]) for row in table(tmp_path / "out")] == [
        ("failed", True)
    ] * 2
