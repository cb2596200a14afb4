"""`benexp task=serve` as a user starts and ends it, and its start page."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp.cli.app import main
from benexp.records.storage import to_dict, write_record
from benexp.report.page import size
from benexp.serving.server import open_below
from benexp.serving.start_page import start_page
from tests.records.builders import configuration, model_record, run_record, sweep_report

RECORD = to_dict(
    run_record(shape=(600, 600), crs="EPSG:32631", model=model_record(name="demo"), seconds=3.2),
)


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
    page = start_page(results).decode()
    assert "a &lt;b&gt; &amp; &#34;c&#34; ü#?%41" in page and "<b>" not in page
    assert 'href="/a%20%3Cb%3E%20%26%20%22c%22%20%C3%BC%23%3F%2541/viewer.html"' in page
    assert "600 x 600 px, EPSG:32631; demo on onnxruntime-cpu, fp32; 3.2 s" in page
    assert 'href="/jobs/0123/1/benchmark_report.csv"' in page
    assert "run.json is not one of this benexp" in page
    assert ".hidden" not in page and ".unfinished" not in page
    assert "<summary>3 files</summary>" in page and "<summary>1 file</summary>" in page


def test_start_page_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert b"No results in here" in start_page(tmp_path)


def test_names_of_any_bytes_are_links_that_the_server_answers(tmp_path: Path) -> None:
    tile = tmp_path / os.fsdecode(b"t\xffile \xe9")
    tile.mkdir()
    (tile / "run.json").write_text(json.dumps(RECORD | {"crs": "\ud800"}))
    (tile / os.fsdecode(b"\xfc.tif")).write_bytes(b"12345")
    page = start_page(tmp_path).decode()
    assert "<h3>t?ile ?</h3>" in page and "run.json is not one of this benexp" in page
    link = "/t%FFile%20%E9/%FC.tif"
    assert f'href="{link}">?.tif</a></td><td>5 B</td>' in page
    with open_below(tmp_path, link) as file:
        assert file.read() == b"12345"


def test_links_that_leave_the_folder_are_not_shown_and_links_within_are(results: Path) -> None:
    secret = results.parent / "secret"
    secret.write_bytes(b"x" * 12_345)
    (results / ".key").write_bytes(b"x" * 12_345)
    folder = results / "linked"
    folder.mkdir()
    (folder / "run.json").symlink_to(next(results.glob("a*/run.json")))
    (folder / "within.csv").symlink_to(results / "jobs" / "0123" / "1" / "report.json")
    for name, target in (("leaves.csv", secret), ("hidden.csv", results / ".key"), ("loop.csv", folder / "loop.csv")):
        (folder / name).symlink_to(target)
    (folder / "gone.csv").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.csv")
    outside = results / "outside"
    outside.mkdir()
    (outside / "run.json").symlink_to(secret)
    (results / "other").symlink_to(results.parent)
    page = start_page(results).decode()
    assert re.findall(r'href="/linked/([^"]*)"', page) == ["run.json", "within.csv"]
    assert "12.3 kB" not in page and 'href="/outside' not in page and 'href="/other' not in page


def test_a_file_that_vanishes_meanwhile_is_left_out(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.walk

    def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, below, names in real(folder):
            yield place, below, [*names, "gone.tif"]

    monkeypatch.setattr(os, "walk", walk)
    page = start_page(results).decode()
    assert "benchmark_report.csv" in page and "gone.tif" not in page


def test_jobs_are_folded_beneath_their_sweep(results: Path) -> None:
    jobs = ["jobs/0123/1", "jobs/0123/2", "jobs/gone/1"]
    configurations = [configuration("torch <b>, batch 8", jobs=jobs), configuration("other")]
    write_record(results / "report.json", sweep_report(*configurations))
    second = results / "jobs" / "0123" / "2"
    (second / "a b").mkdir(parents=True)
    (second / "report.json").write_text("{}")
    for name in ("run.json", "viewer.html"):
        (second / "a b" / name).write_text(json.dumps(RECORD))
    alone = results / "jobs" / "4567" / "1"
    alone.mkdir(parents=True)
    (alone / "report.json").write_text("{}")
    page = start_page(results).decode()
    assert re.findall("<h3>(.*?)</h3>", page)[:2] == [results.name, "jobs/4567/1"]
    assert "<summary>1 configuration, 2 jobs</summary>" in page
    assert "<summary>torch &lt;b&gt;, batch 8</summary>" in page
    assert re.findall("<h4>(.*?)</h4>", page) == ["Repeat 1", "Repeat 2"]
    assert page.count('<a href="/jobs/0123/2/a%20b/viewer.html">a b</a>') == 1
    assert 'href="/jobs/0123/1/benchmark_report.csv"' in page


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12.3 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_no_folder_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["task=serve", f"output_folder={tmp_path / 'none'}"]) == 1
    assert "is no folder" in caplog.text


@pytest.mark.parametrize(("everywhere", "number"), [(False, signal.SIGINT), (True, signal.SIGTERM)])
def test_it_serves_until_it_is_stopped(results: Path, everywhere: bool, number: signal.Signals) -> None:
    command = ["task=serve", f"output_folder={results}", "serve.port=0", *["serve.host=0.0.0.0"] * everywhere]
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
            # Another address of this machine, which stands for those that other machines reach it by.
            try:
                socket.create_connection(("127.0.0.2", int(port)), timeout=10).close()
                reached = True
            except ConnectionRefusedError:
                reached = False
        finally:
            process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and out == "stopped\n"
    assert reached == everywhere
    assert ("whoever reaches this machine can read" in errors) == everywhere
    assert "Traceback" not in errors


def test_browsers_that_close_leave_no_traceback(results: Path) -> None:
    (results / "large.tif").write_bytes(bytes(20_000_000))
    asked = b"GET /large.tif HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-%d\r\n\r\n"
    with subprocess.Popen(
        [sys.executable, "-m", "benexp", "task=serve", f"output_folder={results}", "serve.port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline().split(" until")[0].rpartition(":")[2].strip("/"))
        for last in [0, 19_999_999] * 10:
            # Closed without a farewell: while the server waits for the next request, or in the middle of its answer.
            with socket.create_connection(("127.0.0.1", port), timeout=10) as browser:
                browser.sendall(asked % last)
                browser.recv(1)
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_a_report_of_an_unknown_version_is_named_with_its_sentence(results: Path) -> None:
    write_record(results / "report.json", sweep_report(configuration("torch"), schema_version=99))
    page = start_page(results).decode()
    assert "<p>report.json: has schema version 99, this benexp reads version 1: " in page
    assert str(results) not in page
