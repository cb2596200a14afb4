"""What was measured is not measured again, and what would be another measurement is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benexp.benchmarking import benchmark_job, code_hash, configuration_run
from benexp.benchmarking.measured_run import Request
from benexp.measure.environment import environment
from benexp.records.job import JobReport, Startup
from benexp.records.run import FileRecord
from benexp.records.storage import read_record, write_record
from benexp.records.tile import KnownTile, TileRecord
from tests.benchmarking.builders import report, start, write
from tests.records.builders import done_tile, run_record

pytestmark = pytest.mark.usefixtures("no_plots")


class Requests(list[Request]):
    """Stands in for the processes: notes what they would have been asked, and ends early."""

    def __call__(self, module: str, request: Request) -> Iterator[dict[str, Any]]:
        self.append(request)
        yield {"failed": "not now"}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    found = Requests()
    monkeypatch.setattr(configuration_run, "messages", found)
    monkeypatch.setattr(benchmark_job, "write_collection", lambda *_: None)
    return found


def pretend(products: Path, out: Path, requests: Requests, *more: str) -> dict[str, Any]:
    """Leave the report and results of a run that never was, with keys as this configuration has them."""
    assert start(products, out, *more) == 1
    made = read_record(out / "report.json", JobReport)
    for tile in made.tiles:
        (out / tile.tile).mkdir()
        write_record(out / tile.tile / "run.json", run_record(map_hash="5", files={"class.tif": FileRecord(3, "")}))
        (out / tile.tile / "class.tif").write_text("map")
    asked = [{key: getattr(tile, key) for key in KnownTile.__struct_fields__} for tile in made.tiles]
    tiles: list[TileRecord] = [done_tile(**known) for known in asked]
    done = replace(made, tiles=tiles, startups=[Startup(open_seconds={"load": 1.0}, backend={})])
    write_record(out / "report.json", done)
    requests.clear()
    return report(out)


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
    monkeypatch.setattr(benchmark_job, "environment", lambda: here | fact)
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]


def test_times_of_a_job_beside_others_are_not_taken_for_those_of_one_alone(
    products: Path, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_job, "runs_concurrently", lambda: True)
    pretend(products, tmp_path, requests)
    assert start(products, tmp_path) == 0
    monkeypatch.undo()
    monkeypatch.setattr(configuration_run, "messages", requests)
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]


def test_changed_code_and_changed_input_are_measured_again(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    products, out, code = write(tmp_path / "in", first=None, second=None), tmp_path / "out", tmp_path / "code"
    backend, layer, exporter = (code / f"{name}.py" for name in ("reused_backend", "reused_layer", "exporter"))
    code.mkdir()
    backend.write_text("from benexp.backends.null import NullBackend\nclass Mine(NullBackend): pass\n")
    layer.write_text("def half(probabilities, names): return probabilities[0] / 2\n")
    exporter.write_text("")
    monkeypatch.syspath_prepend(code)
    monkeypatch.setattr(code_hash, "code_folders", lambda: [code])
    mine = (
        "backend._target_=reused_backend.Mine",
        "layers.extra.half.function=reused_layer.half",
        "benchmark.ceiling=false",
    )
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
    write_record(tmp_path / "first" / "run.json", run_record(map_hash="6", files={}))
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


@pytest.mark.parametrize("version", [None, 99])
def test_a_report_of_an_unknown_version_is_measured_anew_with_a_sentence(
    products: Path, tmp_path: Path, requests: Requests, caplog: pytest.LogCaptureFixture, version: int | None
) -> None:
    made = pretend(products, tmp_path, requests)
    (tmp_path / "report.json").write_text(json.dumps(made | {"schema_version": version}))
    assert start(products, tmp_path) == 1
    assert again(requests) == ["first", "second"]
    found = "no schema version" if version is None else "schema version 99"
    assert f"{tmp_path / 'report.json'}: has {found}, this benexp reads version 1" in caplog.text
    assert "its tiles are measured anew" in caplog.text
