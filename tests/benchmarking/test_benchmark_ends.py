"""Benchmarks that do not end well: tiles that fail, processes that die, ends from outside, and going on later."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benexp.benchmarking import configuration_run
from benexp.benchmarking.measured_run import Request
from tests.benchmarking.builders import FAILS, FAST, HERE, KILLS, WAITS, report, start, table, write

pytestmark = pytest.mark.usefixtures("no_plots")


def test_tiles_that_fail_or_kill_are_rows_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    products = write(tmp_path / "in", a=None, b=KILLS, c=FAILS, d=None)
    (products / "e.zip").write_bytes(b"no zip")
    out = tmp_path / "out"
    assert start(products, out, "benchmark.ceiling=true", backend="Moody") == 1
    rows = {row["tile_name"]: row for row in table(out)}
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys("ad", "done"),
        **dict.fromkeys(("b", "c", "e.zip"), "failed"),
    }
    assert "killed by SIGKILL" in rows["b"]["error"]
    assert "Moody failed on model demo: RuntimeError: the engine stumbled" in rows["c"]["error"]
    assert "e.zip" in rows["e.zip"]["error"]
    assert rows["c"]["patches_per_second"] == ""
    found = report(out)
    assert found["status"] == "failed"
    assert len(found["startups"]) == 3
    assert [tile["tile"] for tile in found["ceiling"]["tiles"]] == ["a", "d"]
    assert "3 of 5 products failed: b, c, e.zip" in caplog.text


@pytest.mark.parametrize(
    ("backend", "reason"), [("StillBorn", "its process ended with exit code 3"), ("Missing", "pip install wonders")]
)
def test_a_backend_that_cannot_be_opened_is_a_row_for_every_tile(
    products: Path, tmp_path: Path, backend: str, reason: str
) -> None:
    assert start(products, tmp_path / "out", backend=backend) == 1
    assert [(row["status"], reason in row["error"]) for row in table(tmp_path / "out")] == [("failed", True)] * 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, "interrupted"), (signal.SIGKILL, "unfinished")])
def test_an_end_from_outside_leaves_what_is_done_and_no_process(
    tmp_path: Path, number: signal.Signals, status: str
) -> None:
    products, out = write(tmp_path / "in", a=None, b=WAITS), tmp_path / "out"
    command = [sys.executable, "-m", "benexp", f"input_dir={products}", f"output_folder={out}", *FAST, "backend=null"]
    process = subprocess.Popen(
        [*command, f"backend._target_={HERE}.Moody"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        # Shells have what they start in the background ignore it, and that is passed on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    assert process.stdout.readline().startswith("estimate: ")
    assert process.stdout.readline().startswith("a: ")
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    child.wait(30)
    found = report(out)
    assert (found["status"], [tile["tile"] for tile in found["tiles"]]) == (status, ["a"])
    assert [row["tile_name"] for row in table(out)] == ["a"]
    # Nothing of the tile that was under way, and what is done is not measured again.
    assert not (out / "b").exists()
    write(products, b=None)
    assert start(products, out, "benchmark.ceiling=false", backend="Moody") == 0
    assert [(tile["tile"], tile["reused"]) for tile in report(out)["tiles"]] == [("a", True), ("b", False)]


def test_a_sweep_that_is_interrupted_reports_what_is_done(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Request] = []

    def interrupted(module: str, request: Request) -> Iterator[dict[str, Any]]:
        calls.append(request)
        if len(calls) == 2:
            raise KeyboardInterrupt
        yield {"failed": "not now"}

    monkeypatch.setattr(configuration_run, "messages", interrupted)
    assert start(products, tmp_path, "-m", "benchmark.repeat=1,2,3") == 130
    assert [row["repeat"] for row in table(tmp_path)] == ["1", "1"]
    assert report(tmp_path)["configurations"][0]["failed"] == [1, 2]
