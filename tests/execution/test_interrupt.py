"""Ctrl-C, and an end without one, while workers are at work: none is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.execution.troubles import ASKED, ROOT, environment
from tests.products.builders import random_arrays, write_folder


def _in_group(group: int) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _group(process) == group]


def _group(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getpgid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


LONG = pytest.mark.long
STOPS = [
    ("local", signal.SIGTERM),
    pytest.param("local", signal.SIGINT, marks=LONG),
    pytest.param("local", signal.SIGKILL, marks=LONG),
    pytest.param("dask", signal.SIGTERM, marks=LONG),
    pytest.param("dask", signal.SIGINT, marks=LONG),
    pytest.param("dask", signal.SIGKILL, marks=LONG),
]
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}


@pytest.mark.parametrize(("execution", "number"), STOPS)
def test_no_worker_is_left(execution: str, number: signal.Signals, notes: Path, tmp_path: Path) -> None:
    (notes / "slow").touch()
    for name in ("a", "b"):
        write_folder(tmp_path / "products" / name, arrays=random_arrays((300, 300), seed=ord(name)))
    command = [sys.executable, "-m", "benexp", f"input_dir={tmp_path / 'products'}", "offset=none", *ASKED]
    command += [f"output_folder={tmp_path / 'out'}", f"backend.folder={notes}", "backend.batch_size=1"]
    process = subprocess.Popen(
        [*command, f"execution={execution}", "execution.workers=2"],
        env=environment() | {"BENEXP_TRACKING": "none"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Else ignored where the tests' own caller ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    while len(list((tmp_path / "out").glob("*/.chunks-*"))) < 2:
        time.sleep(0.1)
        assert process.poll() is None
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    end = time.monotonic() + 30
    while _in_group(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _in_group(process.pid)
    if number in WORDS:
        assert said.splitlines()[-1] == f"benexp: error: {WORDS[number]}; the same command goes on from here"
        assert "Traceback" not in said and "leaked" not in said
    assert not list((tmp_path / "out").glob("*/run.json"))
