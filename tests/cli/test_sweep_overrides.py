"""The jobs that overrides and recipes make, and their order."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benexp.cli.app import main
from benexp.cli.sweep_overrides import put_repeats_outermost
from tests.benchmarking.builders import start
from tests.cli.sweeps import Speeds, outcomes


def test_recipes_sweep_without_a_flag_and_the_command_line_wins(products: Path, tmp_path: Path, speeds: Speeds) -> None:
    speeds.update({512: 1.0, 1024: 2.0})
    arguments = [f"input_dir={products}", f"output_folder={tmp_path}", "model=demo", "offset=none", "backend=null"]
    recipe = "experiment=chunk-batch-sweep"
    assert main([recipe, *arguments, "chunking.chunk_size=512,1024", "backend.batch_size=4,8"]) == 0
    # Repeats are outermost, whatever else is given.
    swept = [[o for o in job.overrides if "repeat=" in o or "_size=" in o] for job in outcomes(tmp_path)]
    assert swept == [
        [f"benchmark.repeat={repeat}", f"chunking.chunk_size={chunk}", f"++backend.batch_size={batch}"]
        for repeat in (1, 2, 3)
        for chunk in (512, 1024)
        for batch in (4, 8)
    ]
    assert all(job.status == "done" for job in outcomes(tmp_path))


def test_backends_are_compared_by_a_recipe(products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"input_dir={products}", f"output_folder={tmp_path}", "model=demo", "offset=none", "dry_run=true"]
    assert main(["experiment=backend-comparison", *arguments, "benchmark.repeat=1"]) == 0
    backends = [next(o for o in job.overrides if o.startswith("backend=")) for job in outcomes(tmp_path)]
    assert backends == ["backend=torch", "backend=onnxruntime-cpu", "backend=openvino"]
    # The command line's one repeat stands for the recipe's three.
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("job ")]
    assert said == [f"job {number} of 3: {backend}" for number, backend in enumerate(backends, 1)]


def test_repeats_are_outermost_wherever_they_are_named(products: Path, tmp_path: Path, speeds: Speeds) -> None:
    speeds.update({512: 1.0, 1024: 2.0})
    assert start(products, tmp_path, "-m", "chunking.chunk_size=512,1024", "benchmark.repeat=1,2") == 0
    keys = ("benchmark.repeat=", "chunking.chunk_size=")
    assert [[o for o in job.overrides if o.startswith(keys)] for job in outcomes(tmp_path)] == [
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
