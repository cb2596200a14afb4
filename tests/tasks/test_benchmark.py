"""One configuration measured over products: the report, tiles that fail, processes that die, and going on later."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pystac
import pytest

import exporters
from benexp.app import main
from benexp.backends.null import NullBackend
from benexp.errors import BenexpError
from benexp.measure.environment import environment
from benexp.report.benchmark import COLUMNS
from benexp.tasks import benchmark
from benexp.tasks.measured import Request
from tests.products.builders import random_arrays, write_folder

HERE = "tests.tasks.test_benchmark"
FAST = ("task=benchmark", "model=demo", "offset=none", "chunking.stride=120")
FAILS, KILLS, WAITS = 1111, 2222, 3333
"""What B02 of a product is filled with, for the backends below to behave so."""


class Moody(NullBackend):
    """Behaves as B02 of its patches says; what fails once fails ever after, as engines on CUDA do."""

    _broken = False

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        mood = round(float(patches[0, 0].mean()))
        self._broken |= mood == FAILS
        if self._broken:
            raise RuntimeError("the engine\nstumbled")
        if mood == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == WAITS:
            time.sleep(60)
        return super()._infer(patches)


class StillBorn(NullBackend):
    """Ends its process as it is loaded."""

    def _open(self) -> None:
        os._exit(3)


class Missing(NullBackend):
    def _open(self) -> None:
        raise BenexpError("Missing needs wonders: pip install wonders")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and have tests of their own."""
    monkeypatch.setattr("benexp.tasks.benchmark.write_plots", lambda *_: [])


def write(folder: Path, **moods: int | None) -> Path:
    """A folder of small products of these names."""
    for seed, (name, mood) in enumerate(moods.items()):
        arrays = random_arrays((120, 240), seed=seed)
        if mood is not None:
            arrays["B02"][:] = mood
        write_folder(folder / name, arrays=arrays)
    return folder


def start(products: Path, out: Path, *more: str, backend: str | None = None) -> int:
    own = (f"backend._target_={HERE}.{backend}",) if backend else ()
    return main([f"input_dir={products}", f"output_folder={out}", *FAST, "backend=null", *own, *more])


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def table(out: Path) -> list[dict[str, str]]:
    with (out / "benchmark_report.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None, second=None)


@pytest.fixture(scope="module")
def done(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of a real model, with its ceiling."""
    out = tmp_path_factory.mktemp("out")
    arguments = [f"input_dir={products}", f"output_folder={out}", *FAST, "backend=torch", "backend.threads=1"]
    assert main([*arguments, "backend.batch_size=1"]) == 0
    return out


def test_the_table_has_a_row_per_tile_with_all_that_was_measured(done: Path) -> None:
    rows = table(done)
    assert tuple(rows[0]) == COLUMNS
    assert [row["tile_name"] for row in rows] == ["first", "second"]
    for row in rows:
        folder = done / row["tile_name"]
        record = json.loads((folder / "run.json").read_text())
        assert (row["status"], row["error"], row["repeat"]) == ("done", "", "1")
        assert (row["model"], row["backend"], row["precision"], row["batch_size"]) == ("demo", "torch", "fp32", "1")
        assert (row["chunk_size"], row["patch_size"], row["stride"], row["threads"]) == ("2048", "120", "120", "1")
        assert row["map_hash"] == record["map_hash"]
        assert row["config_hash"] == record["config_hash"]
        assert int(row["file_count"]) == len(record["files"])
        assert float(row["output_size_mb"]) == pytest.approx(
            sum((folder / name).stat().st_size for name in record["files"]) / 1e6, abs=1e-3
        )
        seconds = float(row["processing_time_seconds"])
        assert row["patches"] == "2"
        assert float(row["patches_per_second"]) == pytest.approx(2 / seconds, rel=1e-2)
        assert float(row["km2_per_second"]) == pytest.approx(1.2 * 2.4 / seconds, rel=1e-2)
        for stage in ("open", "decode", "assemble", "infer", "blend", "write"):
            busy = float(row[f"{stage}_seconds"]) / seconds
            assert float(row[f"{stage}_busy"]) == pytest.approx(busy, abs=2e-3)
        # Two batches tell a median, and no 90th percentile.
        assert 0 < float(row["batch_latency_p50_seconds"]) <= float(row["infer_seconds"])
        assert row["batch_latency_p90_seconds"] == ""
        assert float(row["peak_rss_mb"]) >= float(row["memory_mb_start"]) > 0
        # What was told before holds to a factor of two.
        assert 0.5 < float(row["peak_of_estimate"]) < 2
        assert float(row["estimated_rss_mb"]) * float(row["peak_of_estimate"]) == pytest.approx(
            float(row["peak_rss_mb"]), rel=1e-3
        )


def test_the_page_links_the_tiles_and_tells_the_result(done: Path) -> None:
    page = (done / "viewer.html").read_text()
    assert '<a href="./first/viewer.html"><img src="./first/preview.png"' in page
    assert "<td>torch</td>" in page
    assert "patches/s" in page
    assert "Compare two" not in page


def test_the_report_has_environment_start_up_and_ceiling(done: Path) -> None:
    found = report(done)
    assert found["status"] == "done"
    assert found["environment"]["cores"] >= 1
    assert found["config"]["backend"]["threads"] == 1
    (startup,) = found["startups"]
    assert set(startup["open_seconds"]) == {"load", "first_batch", "warmup"}
    assert found["totals"]["done"] == 2
    ceiling = found["ceiling"]["tiles"]
    assert [tile["backend_name"] for tile in ceiling] == ["null", "null"]
    assert {tile["config_hash"] for tile in ceiling}.isdisjoint({found["config_hash"]})
    # Its maps, which show nothing, are gone.
    assert {path.name for path in done.iterdir()} - {"plots"} == {
        "benchmark_report.csv",
        "report.json",
        "viewer.html",
        "collection.json",
        "first",
        "second",
    }
    assert [item.id for item in pystac.Collection.from_file(str(done / "collection.json")).get_items()] == [
        "first",
        "second",
    ]


class Requests(list[Request]):
    """Stands in for the processes: notes what they would have been asked, and ends early."""

    def __call__(self, module: str, request: Request) -> Iterator[dict[str, Any]]:
        self.append(request)
        yield {"failed": "not now"}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    found = Requests()
    monkeypatch.setattr(benchmark, "messages", found)
    monkeypatch.setattr(benchmark, "write_collection", lambda *_: None)
    return found


def pretend(products: Path, out: Path, requests: Requests, *more: str) -> dict[str, Any]:
    """Leave the report and results of a run that never was, with keys as this configuration has them."""
    assert start(products, out, *more) == 1
    made = report(out)
    for tile in made["tiles"]:
        (out / tile["tile"]).mkdir()
        record = {"map_hash": "5", "valid_pixels": 1, "files": {"class.tif": {"bytes": 3}}}
        (out / tile["tile"] / "run.json").write_text(json.dumps(record))
        (out / tile["tile"] / "class.tif").write_text("map")
        tile |= {"status": "done", "error": None, "map_hash": "5", "seconds": 2.0, "patches": 2, "km2": 1.0}
        tile |= {"usage": {"peak": {}, "peak_rss_bytes": 1}, "stage_seconds": {}}
        tile |= {"backend": {"precision": "fp32"}, "verdicts": []}
    made["startups"] = [{"open_seconds": {"load": 1.0}}]
    (out / "report.json").write_text(json.dumps(made))
    requests.clear()
    return made


def again(requests: Requests) -> list[str]:
    """The products that were to be measured."""
    return [path.name for request in requests for path in request.todo]


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ((), 0),
        (("benchmark.unstable=0.1", "integrity=auto"), 0),
        (("resume=false",), 2),
        (("chunking.chunk_size=512",), 2),
        (("benchmark.repeat=2",), 2),
        (("benchmark.warmup=1",), 2),
    ],
)
def test_what_was_measured_is_not_measured_again(
    products: Path, tmp_path: Path, requests: Requests, more: tuple[str, ...], count: int
) -> None:
    out = tmp_path / "out"
    before = pretend(products, out, requests)
    assert start(products, out, *more) == (1 if count else 0)
    assert len(again(requests)) == count
    assert [tile["reused"] for tile in report(out)["tiles"]] == [not count] * 2
    assert report(out)["startups"] == ([] if count else before["startups"])


@pytest.mark.parametrize(
    "fact", [{"cores": 1}, {"cpu_quota": 0.5}, {"processor": "an older one"}, {"gpus": [{"name": "B300"}]}]
)
def test_times_from_other_surroundings_are_measured_again(
    products: Path, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch, fact: dict[str, Any]
) -> None:
    pretend(products, tmp_path, requests)
    here = environment()
    monkeypatch.setattr(benchmark, "environment", lambda: here | fact)
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]


def test_times_of_a_job_beside_others_are_not_taken_for_those_of_one_alone(
    products: Path, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "in_company", lambda: True)
    pretend(products, tmp_path, requests)
    assert start(products, tmp_path) == 0
    monkeypatch.undo()
    monkeypatch.setattr(benchmark, "messages", requests)
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]


def test_changed_code_and_changed_input_are_measured_again(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    products, out, code = write(tmp_path / "in", first=None, second=None), tmp_path / "out", tmp_path / "code"
    backend, layer, exporter = (code / f"{name}.py" for name in ("my_backend", "my_layer", "exporter"))
    code.mkdir()
    backend.write_text("from benexp.backends.null import NullBackend\nclass Mine(NullBackend): pass\n")
    layer.write_text("def half(probabilities, names): return probabilities[0] / 2\n")
    exporter.write_text("")
    monkeypatch.syspath_prepend(code)
    monkeypatch.setattr(exporters, "__path__", [str(code)])
    mine = ("backend._target_=my_backend.Mine", "layers.extra.half.function=my_layer.half", "benchmark.ceiling=false")
    pretend(products, out, requests, *mine)
    assert start(products, out, *mine) == 0
    saved = (out / "report.json").read_text()
    for file in (backend, layer, exporter):
        before = file.read_text()
        file.write_text(f"{before}# changed\n")
        assert start(products, out, *mine) == 1, file
        assert again(requests) == ["first", "second"], file
        file.write_text(before)
        (out / "report.json").write_text(saved)
        requests.clear()
    write(products, second=5)
    assert start(products, out, *mine) == 1
    assert again(requests) == ["second"]


def test_results_that_are_gone_or_others_are_measured_again(products: Path, tmp_path: Path, requests: Requests) -> None:
    pretend(products, tmp_path, requests)
    saved = (tmp_path / "report.json").read_text()
    (tmp_path / "first" / "class.tif").write_text("half a map")
    (tmp_path / "second" / "class.tif").unlink()
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]
    (tmp_path / "report.json").write_text(saved)
    for tile in ("first", "second"):
        (tmp_path / tile / "class.tif").write_text("map")
    (tmp_path / "first" / "run.json").write_text('{"map_hash": "6", "files": {}}')
    (tmp_path / "second" / "run.json").unlink()
    requests.clear()
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]


def test_a_saved_grid_is_never_what_is_timed(tmp_path: Path) -> None:
    products, out = write(tmp_path / "in", only=None), tmp_path / "out"
    assert start(products, out, "benchmark.ceiling=false") == 0
    (out / "report.json").unlink()
    assert (out / "only" / "only_grid.npz").exists()
    assert start(products, out, "benchmark.ceiling=false") == 0
    assert json.loads((out / "only" / "run.json").read_text())["grid_reused"] is False
    assert "infer" in report(out)["tiles"][0]["stage_seconds"]


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


def test_repeats_of_a_sweep_lie_beside_each_other(products: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    assert start(products, wrong, "-m", "benchmark.repeat=1,2", "+x=") == 1  # an unknown key, before any work
    assert not list(wrong.rglob("first"))
    assert start(products, tmp_path, "-m", "benchmark.repeat=1,2") == 0
    (job,) = (tmp_path / "jobs").iterdir()
    assert sorted(path.name for path in job.iterdir()) == ["1", "2"]
    assert [report(job / repeat)["tiles"][0]["repeat"] for repeat in "12"] == [1, 2]
    assert all(report(job / repeat)["ceiling"] is None for repeat in "12")
    joint = report(tmp_path)
    assert joint["status"] == "done"
    assert joint["jobs"] == [f"jobs/{job.name}/1", f"jobs/{job.name}/2"]
    (found,) = joint["configurations"]
    assert (found["configuration"], found["repeats"], found["failed"]) == ("null", [1, 2], [])
    assert [(row["tile_name"], row["repeat"]) for row in table(tmp_path)] == [
        *(("first", "1"), ("second", "1")),
        *(("first", "2"), ("second", "2")),
    ]


def test_a_sweep_that_is_interrupted_reports_what_is_done(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Request] = []

    def interrupted(module: str, request: Request) -> Iterator[dict[str, Any]]:
        calls.append(request)
        if len(calls) == 2:
            raise KeyboardInterrupt
        yield {"failed": "not now"}

    monkeypatch.setattr(benchmark, "messages", interrupted)
    assert start(products, tmp_path, "-m", "benchmark.repeat=1,2,3") == 130
    assert [row["repeat"] for row in table(tmp_path)] == ["1", "1"]
    assert report(tmp_path)["configurations"][0]["failed"] == [1, 2]
