"""The scripts in benchmarks/, as far as they can be tried without measuring."""

import shlex
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil
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
    # The last line has two, at the same time.
    typed = [shlex.split(one) for line in listed.stdout.splitlines() for one in line.split(" & ")]
    commands = [words[words.index(sys.executable) :] for words in typed]
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
    assert listed.splitlines() == [f"{sys.executable} -m benexp task=doctor"]


def test_commands_are_listed_as_they_run() -> None:
    compared, together = (run(GPU, "--list", "--only", step).stdout for step in ("compare", "together"))
    assert all(line.startswith(f"NVIDIA_TF32_OVERRIDE=0 {sys.executable}") for line in compared.splitlines())
    (line,) = together.splitlines()
    assert [sys.executable in one for one in line.split(" & ")] == [True, True]
    variants = run(GPU, "--list", "--only", "variants", "--out", "out").stdout.splitlines()
    set_to = [line[: line.index(" ")].partition("=")[2] for line in variants if "fp32" in line]
    assert set_to == ["1", "0", "1", "0"]
    written = [Path(shlex.split(line)[shlex.split(line).index("--json") + 1]).name for line in variants]
    assert written[0] == "variants-onnxruntime-cuda-fp16-prefer_nhwc-true.json"
    assert len(set(written)) == len(written)
    assert not any(set(name) & set(" =:") for name in written)


def is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_that_takes_too_long_ends_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"

    class Late(subprocess.Popen[bytes]):
        """Its time is over as soon as its child runs."""

        def wait(self, timeout: float | None = None) -> int:
            if timeout is None:
                return super().wait()
            while not (started.is_file() and started.read_text()):
                assert self.poll() is None
                time.sleep(0.01)
            raise subprocess.TimeoutExpired("it", timeout)

    monkeypatch.setattr(subprocess, "Popen", Late)
    monkeypatch.syspath_prepend(str(GPU.parent))
    gpu = import_module("gpu")
    child = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    row = gpu.run(gpu.Command("dask", "long", [sys.executable, "-c", parent]), tmp_path, limit=7)
    assert row["problem"] == "it took longer than 7 s"
    number = int(started.read_text())
    for _ in range(2000):
        if not is_running(number):
            break
        time.sleep(0.01)
    assert not is_running(number)
