"""Sweeps that are refused or prepared before their first job."""

import subprocess
import sys
from pathlib import Path

import pytest

from benexp.cli import job_runner
from benexp.cli.app import main
from tests.benchmarking.builders import FAST
from tests.records.builders import done_tile


@pytest.mark.parametrize("other", [("task=classify",), ("task=benchmark", "dry_run=true")])
def test_only_a_benchmark_that_begins_anew_drops_the_ceilings(
    other: tuple[str, ...], products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "run", lambda *_, **__: [done_tile()])
    (tmp_path / "ceilings").mkdir()
    arguments = (f"tile_folder={products / 'first'}", f"output_folder={tmp_path}", "-m", "seed=1", "resume=false")
    assert main([*arguments, *other]) == 0
    assert (tmp_path / "ceilings").exists()
    assert main([*arguments, "task=benchmark"]) == 0
    assert not (tmp_path / "ceilings").exists()


@pytest.mark.parametrize("choice", ["hydra/launcher=joblib", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"])
def test_without_the_plugin_it_says_which_extra_has_it(choice: str, products: Path, tmp_path: Path) -> None:
    hide = "import sys, hydra_plugins; hydra_plugins.__path__[:] = []"
    code = f"{hide}; from benexp.cli.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = [f"input_dir={products}", f"output_folder={tmp_path / 'out'}", *FAST, "backend=null", "-m", choice]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert f"{choice}: not found" in ran.stderr
    assert "pip install 'benexp[sweeps]'" in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("backend=null,typo",), "backend=typo: takes null, onnxruntime-cpu"),
        (("chunking.chunksize=512,1024",), "unknown key chunking.chunksize (did you mean chunk_size?)"),
    ],
)
def test_a_typo_in_what_is_swept_is_one_line_before_any_work(
    overrides: tuple[str, ...], message: str, products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        main([f"input_dir={products}", f"output_folder={tmp_path}", *FAST, "-m", "benchmark.repeat=1", *overrides]) == 1
    )
    (record,) = caplog.records
    assert message in record.getMessage()
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("input_dir='in','out'", "benchmark.warmup=0,3"), "benchmark.warmup, input_dir: "),
        (("tracking=none,mlflow",), "tracking: "),
        (("task=classify", "benchmark.repeat=1,2"), "benchmark.repeat: "),
    ],
)
def test_what_makes_no_other_job_is_refused_before_any_work(
    overrides: tuple[str, ...], named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["task=benchmark", f"output_folder={tmp_path}", "-m", "chunking.stride=60,120", *overrides]) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{named}not to be swept")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("chunking.stride=60,500",),
            "chunking.stride=500: takes 1 to chunking.patch_size=120, or pixels between the patches would get no class "
            "(job 2 of 4: benchmark.repeat=1 chunking.stride=500; no job was begun)",
        ),
        (
            ("chunking.patch_size=60,120", "chunking.stride=60,120"),
            "(job 2 of 8: benchmark.repeat=1 chunking.patch_size=60 chunking.st",
        ),
        (("layers.names=[class],[class,clas]",), "layers.names: unknown layer 'clas', it takes"),
        (("backend.precision=fp32,fp64", "backend=torch"), "backend.precision=fp64: TorchBackend takes"),
        (("+backend.tpye=a,b",), "unknown key backend.tpye"),
    ],
)
def test_a_bad_value_anywhere_in_a_grid_is_refused_before_the_first_job(
    overrides: tuple[str, ...], message: str, products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = (f"input_dir={products}", f"output_folder={tmp_path}", *FAST, "backend=null", "-m", "benchmark.repeat=1,2")
    assert main([*(one for one in asked if not one.startswith("chunking.")), *overrides]) == 1
    (record,) = caplog.records
    assert message in record.getMessage()
    assert not list(tmp_path.iterdir())


def test_a_bad_value_of_a_trial_is_refused_as_it_comes(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trials = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=1")
    asked = (f"input_dir={products}", f"output_folder={tmp_path}", *FAST, "backend=null", "-m", *trials)
    assert main([*asked, "chunking.min_valid=2,3"]) == 1
    assert sum("takes a share from 0 to 1" in message for message in caplog.messages) == 2
