"""`benexp task=serve` as a user starts and ends it, and its start page."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from benexp.app import main
from benexp.report.start_page import start_page

RECORD = {
    "shape": [600, 600],
    "crs": "EPSG:32631",
    "model": {"name": "demo"},
    "backend": {"backend": "OnnxRuntimeBackend", "precision": "fp32"},
    "seconds": 3.2,
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a tile of an odd name and a benchmark, with files that are small and empty."""
    tile = tmp_path / 'a <b> & "c" ü#?%41'
    tile.mkdir()
    (tile / "run.json").write_text(json.dumps(RECORD))
    for name in ("viewer.html", "preview.png", ".hidden"):
        (tile / name).touch()
    job = tmp_path / "jobs" / "0123" / "1"
    job.mkdir(parents=True)
    (job / "report.json").write_text("{}")
    (job / "benchmark_report.csv").touch()
    (tmp_path / ".unfinished-1").mkdir()
    (tmp_path / ".unfinished-1" / "run.json").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("[]")
    return tmp_path


def test_start_page_lists_tiles_and_benchmarks(results: Path) -> None:
    page = start_page(results)
    assert "a &lt;b&gt; &amp; &#34;c&#34; ü#?%41" in page and "<b>" not in page
    assert 'href="/a%20%3Cb%3E%20%26%20%22c%22%20%C3%BC%23%3F%2541/viewer.html"' in page
    assert "600 x 600 px, EPSG:32631; demo on OnnxRuntimeBackend, fp32; 3.2 s" in page
    assert 'href="/jobs/0123/1/benchmark_report.csv"' in page
    assert "run.json is not one of benexp" in page
    assert ".hidden" not in page and ".unfinished" not in page


def test_start_page_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert "No results in here" in start_page(tmp_path)


def test_no_folder_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["task=serve", f"output_folder={tmp_path / 'none'}"]) == 1
    assert "is no folder" in caplog.text


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_serves_until_it_is_interrupted(results: Path, host: str, warned: bool) -> None:
    command = ["task=serve", f"output_folder={results}", "serve.port=0", f"serve.host={host}"]
    with subprocess.Popen(
        [sys.executable, "-m", "benexp", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells have what they start in the background ignore it, and that is passed on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout and process.stderr
        try:
            said = process.stdout.readline()
            port = said.split(" until")[0].rpartition(":")[2].strip("/")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert b"EPSG:32631" in answer.read()
        finally:
            process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and out == "stopped\n"
    assert ("whoever reaches this machine can read" in errors) == warned
    assert "Traceback" not in errors
