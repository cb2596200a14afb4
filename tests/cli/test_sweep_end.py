"""Sweeps that are interrupted or killed, and continued by the same command."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.benchmarking.builders import FAST, HERE, WAITS, report, table, write

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
