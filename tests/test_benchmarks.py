"""The scripts in benchmarks/, as far as they can be tried without measuring."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benexp.config.groups import conf_folder
from benexp.config.quoting import quote

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu.py"


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, cwd=ROOT)


def test_rates_of_batches_that_do_not_divide_the_patches_are_refused() -> None:
    engines = run(ROOT / "benchmarks" / "engines.py", "--batch-sizes", "64", "512", "--patches", "192")
    assert engines.returncode == 2
    assert "--patches 192: takes a multiple of every batch size, which [512] do not divide" in engines.stderr


@pytest.mark.parametrize("rehearse", [True, False])
def test_the_commands_of_the_first_half_hour_are_understood(rehearse: bool) -> None:
    listed = run(GPU, "--list", *(["--rehearse"] if rehearse else []))
    commands = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(commands) > 10
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for command in commands:
            if command[1:3] == ["-m", "benexp"]:
                words = [word for word in command[3:] if word != "-m"]
                # One of the values of a sweep.
                compose("config", [quote(word.split(",")[0] if "batch_size" in word else word) for word in words])


def test_every_step_is_explained() -> None:
    page = (ROOT / "benchmarks" / "gpu.md").read_text()
    steps = ("doctor", "bare", "variants", "engines", "compare", "batches", "dask", "together")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == list(steps)
    listed = run(GPU, "--list", "--only", "doctor").stdout
    assert "task=doctor" in listed
