"""Sweeps: launchers that run jobs in other processes, Optuna, recipes that need no -m, interrupts, and going on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from omegaconf import DictConfig, OmegaConf

from benexp.cli import jobs
from benexp.cli.app import main
from benexp.cli.sweep_overrides import put_repeats_outermost
from benexp.core.errors import BenexpError
from tests.benchmarking.builders import FAST, HERE, WAITS, report, start, table, write


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None)


def outcomes(out: Path) -> list[dict[str, Any]]:
    """What became of the jobs of the last sweep, in order."""
    last = max((path for path in (out / "hydra").iterdir() if path.name[0].isdecimal()), key=os.path.getmtime)
    return [json.loads(file.read_text()) for file in sorted(last.glob("*.json"), key=lambda file: int(file.stem))]


SWEPT = ("-m", "chunking.stride=60,500", "benchmark.repeat=1,2")


SEEN = (("500", "failed"), ("60", "done"))


def check_swept(out: Path, said: str) -> None:
    """Two of four jobs failed, each with its reason, and the others are in the report."""
    assert [(job["status"], "objective" in job) for job in outcomes(out)] == [("done", True), ("failed", False)] * 2
    assert all("chunking.stride=500: takes 1 to" in job["error"] for job in outcomes(out)[1::2])
    assert said.count("chunking.stride=500: takes 1 to") == 2
    rows = sorted((row["stride"], row["repeat"], row["status"]) for row in table(out))
    assert rows == [(stride, repeat, status) for stride, status in SEEN for repeat in "12"]


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


class Speeds(dict[int, float]):
    """Stands in for what jobs do: chunk sizes have these speeds; those that are not here fail."""

    def __call__(self, composed: DictConfig, *_: Any, **__: Any) -> list[dict[str, Any]]:
        if (speed := self.get(composed.chunking.chunk_size)) is None:
            raise BenexpError("not today")
        return [{"patches": 3, "seconds": 2 / speed}, {"patches": 5, "seconds": 6 / speed}]


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    found = Speeds()
    monkeypatch.setattr(jobs, "run", found)
    return found


TRIALS = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=1")


@pytest.mark.parametrize("other", [("task=classify",), ("task=benchmark", "dry_run=true")])
def test_only_a_benchmark_that_begins_anew_drops_the_ceilings(
    other: tuple[str, ...], products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "run", lambda *_, **__: [{"patches": 1, "seconds": 1.0}])
    (tmp_path / "ceilings").mkdir()
    arguments = (f"tile_folder={products / 'first'}", f"output_folder={tmp_path}", "-m", "seed=1", "resume=false")
    assert main([*arguments, *other]) == 0
    assert (tmp_path / "ceilings").exists()
    assert main([*arguments, "task=benchmark"]) == 0
    assert not (tmp_path / "ceilings").exists()


def test_optuna_finds_the_fastest_and_takes_failures(
    products: Path, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    speeds.update({512: 10.0, 2048: 30.0})
    # As many as it takes to try each of the three.
    assert start(products, tmp_path, *TRIALS, "hydra.sweeper.n_trials=6", "chunking.chunk_size=512,1024,2048") == 1
    assert {job.get("objective") for job in outcomes(tmp_path)} == {None, 10.0, 30.0}
    said = capsys.readouterr().out
    assert "best of the trials: 30.0 patches/s with chunking.chunk_size=2048" in said
    assert "job 6 of 6: chunking.chunk_size=" in said
    assert "float-castable" not in caplog.text


def test_optuna_without_any_objective_is_one_more_line(
    products: Path, tmp_path: Path, speeds: Speeds, caplog: pytest.LogCaptureFixture
) -> None:
    assert start(products, tmp_path, *TRIALS, "hydra.sweeper.n_trials=2", "chunking.chunk_size=512,1024") == 1
    assert "hydra/sweeper=optuna: no trial came to its objective" in caplog.text
    assert [job["status"] for job in outcomes(tmp_path)] == ["failed"] * 2


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


def test_recipes_sweep_without_a_flag_and_the_command_line_wins(products: Path, tmp_path: Path, speeds: Speeds) -> None:
    speeds.update({512: 1.0, 1024: 2.0})
    arguments = [f"input_dir={products}", f"output_folder={tmp_path}", "model=demo", "offset=none", "backend=null"]
    recipe = "experiment=chunk-batch-sweep"
    assert main([recipe, *arguments, "chunking.chunk_size=512,1024", "backend.batch_size=4,8"]) == 0
    # Repeats are outermost, whatever else is given.
    swept = [[o for o in job["overrides"] if "repeat=" in o or "_size=" in o] for job in outcomes(tmp_path)]
    assert swept == [
        [f"benchmark.repeat={repeat}", f"chunking.chunk_size={chunk}", f"++backend.batch_size={batch}"]
        for repeat in (1, 2, 3)
        for chunk in (512, 1024)
        for batch in (4, 8)
    ]
    assert all(job["status"] == "done" for job in outcomes(tmp_path))


def test_backends_are_compared_by_a_recipe(products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"input_dir={products}", f"output_folder={tmp_path}", "model=demo", "offset=none", "dry_run=true"]
    assert main(["experiment=backend-comparison", *arguments, "benchmark.repeat=1"]) == 0
    backends = [next(o for o in job["overrides"] if o.startswith("backend=")) for job in outcomes(tmp_path)]
    assert backends == ["backend=torch", "backend=onnxruntime-cpu", "backend=openvino"]
    # The command line's one repeat stands for the recipe's three.
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("job ")]
    assert said == [f"job {number} of 3: {backend}" for number, backend in enumerate(backends, 1)]


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


def test_repeats_are_outermost_wherever_they_are_named(products: Path, tmp_path: Path, speeds: Speeds) -> None:
    speeds.update({512: 1.0, 1024: 2.0})
    assert start(products, tmp_path, "-m", "chunking.chunk_size=512,1024", "benchmark.repeat=1,2") == 0
    keys = ("benchmark.repeat=", "chunking.chunk_size=")
    assert [[o for o in job["overrides"] if o.startswith(keys)] for job in outcomes(tmp_path)] == [
        [f"benchmark.repeat={repeat}", f"chunking.chunk_size={chunk}"] for repeat in (1, 2) for chunk in (512, 1024)
    ]


@pytest.mark.parametrize(
    ("params", "typed"),
    [({"backend": "a,b"}, ["benchmark.repeat=1,2"]), ({"backend": "a,b", "benchmark.repeat": "1,2"}, [])],
)
def test_repeats_come_before_what_a_recipe_sweeps(params: dict[str, str], typed: list[str]) -> None:
    hydra = OmegaConf.create({"sweeper": {"params": params}, "overrides": {"task": typed}})
    put_repeats_outermost(hydra)
    assert list(hydra.sweeper.params.items()) == [("benchmark.repeat", "1,2"), ("backend", "a,b")]


def test_an_output_folder_that_cannot_be_written_is_one_line(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert start(products, tmp_path / "file" / "out", "-m", "benchmark.repeat=1,2") == 1
    (record,) = caplog.records
    assert str(tmp_path / "file") in record.getMessage()


LONG = pytest.mark.long
STOPS = [
    (None, signal.SIGINT),
    pytest.param(None, signal.SIGKILL, marks=LONG),
    pytest.param("joblib", signal.SIGINT, marks=LONG),
    pytest.param("submitit_local", signal.SIGINT, marks=LONG),
]


@pytest.mark.parametrize(("launcher", "number"), STOPS)
def test_a_sweep_that_is_stopped_goes_on(launcher: str | None, number: signal.Signals, tmp_path: Path) -> None:
    products, out = write(tmp_path / "in", a=None, b=WAITS), tmp_path / "out"
    command = [sys.executable, "-m", "benexp", f"input_dir={products}", f"output_folder={out}", *FAST, "backend=null"]
    command += [f"backend._target_={HERE}.Moody", "-m", "chunking.stride=60,120", "benchmark.ceiling=false"]
    command += [f"hydra/launcher={launcher}"] if launcher else []
    top = Path(__file__).parents[2]
    process = subprocess.Popen(
        command,
        cwd=top,
        stdout=subprocess.PIPE,
        text=True,
        # Shells have what they start in the background ignore it, and that is passed on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    begun = 2 if launcher else 1

    def done() -> int:
        return sum(bool(json.loads(path.read_text())["tiles"]) for path in out.glob("jobs/*/*/report.json"))

    while done() < begun and process.poll() is None:
        time.sleep(0.1)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said, _ = process.communicate()
    assert not psutil.wait_procs(below, 30)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        left = ", 1 not begun" if begun == 1 else ""
        assert f"jobs: {begun} interrupted{left}; the same command goes on from here" in said
        # submitit's jobs say it in logs of their own.
        assert launcher == "submitit_local" or "job 1 of 2: chunking.stride=60" in said
        assert [row["tile_name"] for row in table(out)] == ["a"] * begun
    # What kept it waiting is gone: the same command does the rest.
    write(tmp_path / "in", b=None)
    ran = subprocess.run(command, cwd=top, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert sorted((tile["tile"], tile["reused"]) for tile in report(out)["tiles"]) == sorted(
        [("a", True)] * begun + [("a", False)] * (2 - begun) + [("b", False)] * 2
    )
    # What was taken over still says which sweep it was measured in.
    sweeps = {
        reused: {tile["sweep"] for tile in report(out)["tiles"] if tile["reused"] is reused} for reused in (True, False)
    }
    assert len(sweeps[True] | sweeps[False]) == 2
    assert None not in sweeps[True] | sweeps[False]


def test_an_empty_input_folder_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert start(tmp_path / "in", tmp_path / "out", "-m", "benchmark.repeat=1,2") == 1
    assert [(row["status"], "holds no products" in row["error"]) for row in table(tmp_path / "out")] == [
        ("failed", True)
    ] * 2
