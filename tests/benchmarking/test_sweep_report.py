"""The report of a sweep, on made-up jobs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pystac
import pytest

from benexp.benchmarking.sweep_report import join, written
from benexp.core.files import identity
from benexp.demo.product import write_product
from benexp.records.figures import Verdict
from benexp.records.job_outcome import JobOutcome
from benexp.records.sweep import Configuration, SweepReport
from benexp.records.tile import DoneTile, FailedTile
from tests.benchmarking.made_up_jobs import FLIP, change, joined, report_of, reports, write_job
from tests.records.builders import ceiling, failed_tile

pytestmark = pytest.mark.usefixtures("no_plots")


def write_repeats(folder: Path, *seconds: float, **more: Any) -> None:
    for repeat, took in enumerate(seconds, 1):
        write_job(folder, took, repeat=repeat, **more)


def test_configurations_have_medians_spread_and_a_comparison_with_the_reference(tmp_path: Path) -> None:
    stale = write_job(tmp_path, 99, chunk=512)
    write_repeats(tmp_path, 2.0, 2.04, 1.96, gb=3)
    write_repeats(tmp_path, 4.0, 4.02, 5.9, chunk=1024)
    change(write_job(tmp_path, 1.0, batch=8), status="interrupted")
    said: list[str] = []
    # A job was interrupted; the one of an earlier sweep is none of this one.
    assert not join(tmp_path, [path for path in reports(tmp_path) if path.parent != stale], said.append)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["status"], report["problems"]) == ("failed", [])
    found = {one["configuration"]: one for one in report["configurations"]}
    assert set(found) == {
        f"torch, chunk {chunk}, batch {batch}" for chunk, batch in ((2048, 32), (1024, 32), (2048, 8))
    }
    first = found["torch, chunk 2048, batch 32"]
    assert (first["median"]["median"], first["memory_bytes"], first["patches"]) == (2.0, 3 * 10**9, 100)
    assert (first["verdicts"], first["left_out"], first["stage_seconds"]["infer"]) == ([], None, 1.0)
    assert first["overrides"] == ["backend=torch", "chunking.chunk_size=2048", "backend.batch_size=32"]
    slow = found["torch, chunk 1024, batch 32"]
    assert [verdict["code"] for verdict in slow["verdicts"]] == ["unstable"]
    assert slow["left_out"] is None
    failed = found["torch, chunk 2048, batch 8"]
    assert (failed["failed"], failed["median"], failed["against_reference"]) == ([1], None, None)
    assert failed["left_out"] == "it was interrupted"
    assert report["reference"]["configuration"] == report["recommendation"]["configuration"] == first["configuration"]
    assert any("50.0  47.6 to 52.6" in line for line in said)
    assert report["recommendation"]["sentence"] in said


def test_the_fields_are_those_that_are_documented(tmp_path: Path) -> None:
    write_job(tmp_path)
    assert join(tmp_path, reports(tmp_path), lambda _: None)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == set(SweepReport.__annotations__)
    assert set(report["configurations"][0]) == set(Configuration.__annotations__)


def test_one_configuration_is_no_different_from_itself(tmp_path: Path) -> None:
    write_repeats(tmp_path, 2.0, 2.02, 1.99)
    write_repeats(tmp_path, 2.01, 2.0, 2.0, chunk=1024)
    report = joined(tmp_path)
    assert report["configurations"]["torch, chunk 1024"]["against_reference"]["verdict"] == "no difference"
    assert "no difference measured from torch, chunk" in report["recommendation"]["sentence"]


def test_times_of_another_sweep_than_the_references_are_marked(tmp_path: Path) -> None:
    for repeat in (1, 2):
        write_job(tmp_path, 2.0, repeat=repeat, sweep=f"the {repeat}.")
        write_job(tmp_path, 1.0, repeat=repeat, batch=8, sweep=f"the {repeat}.")
        write_job(tmp_path, 1.0, repeat=repeat, batch=16, sweep="the 2.")
    marks = {
        one["overrides"][-1]: [v["sentence"] for v in one["verdicts"] if v["code"] == "other-time"]
        for one in joined(tmp_path)["configurations"].values()
    }
    assert {key: len(sentences) for key, sentences in marks.items()} == {
        f"backend.batch_size={size}": count for size, count in ((32, 0), (8, 0), (16, 1))
    }
    assert "repeat 1 not measured in the same sweep as the reference's" in marks["backend.batch_size=16"][0]


def test_flips_are_counted_over_all_tiles_against_torch_at_fp32(tmp_path: Path) -> None:
    write_repeats(tmp_path, 2.0, 2.0, backend="openvino")
    write_repeats(tmp_path, 1.0, 1.0, backend="openvino", precision="int8", answers=FLIP)
    write_repeats(tmp_path, 4.0, 4.0, backend="torch", gb=0.5)
    report = joined(tmp_path)
    assert report["reference"]["configuration"] == "torch, fp32"
    found = report["configurations"]
    assert (found["openvino, fp32"]["flips_per_million"], found["openvino, fp32"]["prob_diff_max"]) == (0, None)
    int8 = found["openvino, int8"]
    # One of the eight patches of two tiles.
    assert (int8["flips_per_million"], int8["beyond_ties_per_million"]) == (125_000, 125_000)
    assert int8["prob_diff_max"] == pytest.approx(0.8)
    assert (int8["against_reference"]["verdict"], int8["against_reference"]["speedup"]) == ("faster", pytest.approx(4))
    fronts = {name: (one["pareto_memory"], one["pareto_flips"]) for name, one in found.items()}
    assert fronts == {"openvino, fp32": (False, True), "openvino, int8": (True, True), "torch, fp32": (True, False)}


def test_a_recommendation_keeps_its_limits(tmp_path: Path) -> None:
    limits = {"max_memory_gb": 6.0, "max_flips_per_million": 50.0}
    write_repeats(tmp_path, 4.0, 4.02, **limits)
    write_repeats(tmp_path, 2.0, 2.01, backend="onnxruntime-cpu", **limits)
    write_repeats(tmp_path, 1.0, 1.01, backend="openvino", answers=FLIP, **limits)
    write_repeats(tmp_path, 0.5, 0.51, backend="onnxruntime-cuda", gb=7, **limits)
    write_repeats(tmp_path, 0.1, 0.1, backend="null", **limits)
    fell_back = Verdict("fallback", "warning", "it ran on cpu")
    write_repeats(tmp_path, 0.2, 0.2, backend="tensorrt", verdicts=[fell_back], **limits)
    report = joined(tmp_path)
    assert report["recommendation"]["configuration"] == "onnxruntime-cpu"
    assert report["recommendation"]["sentence"].startswith(
        "fastest under 6 GB with at most 50 flipped pixels per million: onnxruntime-cpu: 2.0"
    )
    assert {name: one["left_out"] for name, one in report["configurations"].items()} == {
        **{"torch": None, "onnxruntime-cpu": None, "null": "it classifies nothing", "tensorrt": "it ran on cpu"},
        **{"openvino": "125,000 flipped pixels per million", "onnxruntime-cuda": "7 GB of memory"},
    }
    assert not report["configurations"]["null"]["pareto_memory"]


def test_a_ceiling_has_an_interval_and_says_when_a_run_beat_it(tmp_path: Path) -> None:
    for repeat, without in enumerate((1.0, 1.2, 3.0), 1):
        job = write_job(tmp_path, 2.0, repeat=repeat)
        change(job, ceiling=ceiling(2, without))
        # Of one tile of two it is none.
        change(write_job(tmp_path, 0.5, repeat=repeat, batch=8), ceiling=ceiling(1, without))
    found = joined(tmp_path)["configurations"]
    known = found["torch, batch 32"]["ceiling_seconds"]
    assert (known["median"], known["samples"]) == (1.2, 3)
    assert known["low"] < 1 < 3 < known["high"]
    sentences = {verdict["code"]: verdict["sentence"] for verdict in found["torch, batch 32"]["verdicts"]}
    assert sentences["ceiling"].startswith("1 of 3 repeats measured faster than the ceiling")
    assert found["torch, batch 8"]["ceiling_seconds"] is None
    assert "ceiling" not in {verdict["code"] for verdict in found["torch, batch 8"]["verdicts"]}


def test_a_job_that_was_interrupted_before_its_first_tile_is_not_called_unknown_or_failed(tmp_path: Path) -> None:
    write_job(tmp_path)
    change(write_job(tmp_path, backend="benexp.backends.null.NullBackend"), status="interrupted", tiles=[])
    said: list[str] = []
    assert not join(tmp_path, reports(tmp_path), said.append)
    (row,) = [line for line in said if line.startswith("null  ")]
    assert row.endswith("  interrupted")
    assert "not recommended: it was interrupted: null" in said


def test_times_that_vary_widely_keep_nothing_from_being_recommended(tmp_path: Path) -> None:
    write_repeats(tmp_path, 10.0, 20.0)
    write_repeats(tmp_path, 4.0, 15.0, backend="onnxruntime-cpu")
    write_repeats(tmp_path, 30.0, 30.0, backend="openvino")
    advice = joined(tmp_path)["recommendation"]
    assert (advice["configuration"], advice["not_told_apart"]) == ("onnxruntime-cpu", ["torch", "openvino"])
    assert "not told apart from torch (" in advice["sentence"] and "its 2 runs vary by 82%" in advice["sentence"]


def fail(job: Path, *tiles: str) -> None:
    """Change a job to one in which these tiles failed."""

    def failed(tile: DoneTile) -> FailedTile:
        kept = ("product", "model", "backend_name", "repeat", "config_hash", "asked", "chunking")
        return failed_tile(tile.tile, "B02 is truncated", **{key: getattr(tile, key) for key in kept})

    found = [failed(tile) if tile.tile in tiles else tile for tile in report_of(job).done]
    change(job, status="failed", tiles=found)


def test_a_product_that_fails_everywhere_is_left_out_of_the_comparison(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for backend, seconds in (("torch", 4.0), ("onnxruntime-cpu", 2.0), ("null", 1.0)):
        for repeat in (1, 2):
            fail(write_job(tmp_path, seconds, repeat=repeat, backend=backend), "b")
    report = joined(tmp_path, expected=False)
    assert report["excluded"] == (
        "compared over 1 of 2 products, as the others failed in every job: b (B02 is truncated)"
    )
    assert report["excluded"] in caplog.text and "1 of 2 products" in (tmp_path / "viewer.html").read_text()
    assert report["recommendation"]["sentence"].startswith("fastest: onnxruntime-cpu: 2.0")
    found = report["configurations"]["onnxruntime-cpu"]
    assert (found["status"], found["patches"], found["flips_per_million"]) == ("done", 50, 0)


def test_a_product_that_fails_in_some_jobs_is_their_failure(tmp_path: Path) -> None:
    write_job(tmp_path, 4.0)
    fail(write_job(tmp_path, 2.0, backend="openvino"), "b")
    fail(write_job(tmp_path, 1.0, backend="onnxruntime-cpu"), "a", "b")
    report = joined(tmp_path, expected=False)
    assert (report["excluded"], report["recommendation"]["configuration"]) == (None, "torch")
    found = report["configurations"]
    assert found["openvino"]["left_out"] == "failed: b: B02 is truncated"
    assert (found["onnxruntime-cpu"]["failed"], found["torch"]["patches"]) == ([1], 100)


def test_where_every_product_fails_nothing_is_known_of_them(tmp_path: Path) -> None:
    for chunk in (512, 1024):
        fail(write_job(tmp_path, chunk=chunk), "a", "b")
    report = joined(tmp_path, expected=False)
    assert (report["excluded"], report["reference"]) == (None, None)
    assert {one["status"] for one in report["configurations"].values()} == {"failed"}


def test_another_question_is_neither_compared_nor_recommended(tmp_path: Path) -> None:
    write_job(tmp_path, 9.0)
    job = write_job(tmp_path, 1.0, batch=8)
    config = report_of(job).config
    change(job, config=config | {"chunking": config["chunking"] | {"stride": 1}})
    report = joined(tmp_path)
    found = report["configurations"]["torch, batch 8, stride 1"]
    assert found["left_out"] == "it makes another map than the reference does: chunking.stride=1"
    assert (found["flips_per_million"], found["compared"], found["pareto_memory"]) == (None, False, False)
    assert found["against_reference"]["speedup"] == pytest.approx(9)
    assert report["recommendation"]["configuration"] == "torch, batch 32, stride 2"


def test_without_a_model_there_is_no_reference(tmp_path: Path) -> None:
    write_job(tmp_path, backend="null")
    report = joined(tmp_path)
    assert (report["reference"], report["recommendation"]["configuration"]) == (None, None)


def sweep(products: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """What a user would type, with times that may vary as they like."""
    swept = (
        "backend=null,onnxruntime-cpu",
        "chunking.chunk_size=120,240",
        "benchmark.unstable=0.99",
        "benchmark.ceiling=false",
    )
    quick = ("backend.batch_size=1", "backend.threads=1", "benchmark.warmup=0", "chunking.stride=120")
    where = (f"input_dir={products}", f"output_folder={out}", "recommend.max_flips_per_million=50")
    command = [sys.executable, "-m", "benexp", "-m", "task=benchmark", "model=demo", *swept, *quick, *where]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_real_sweep_recommends_and_an_altered_grid_fails_it_when_it_is_resumed(tmp_path: Path) -> None:
    products, out = tmp_path / "products", tmp_path / "out"
    write_product(products, 240, seed=7)
    done = sweep(products, out)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    names = [f"{backend}, chunk {chunk}" for backend in ("null", "onnxruntime-cpu") for chunk in (120, 240)]
    assert [one["configuration"] for one in report["configurations"]] == names
    assert [one["flips_per_million"] for one in report["configurations"]] == [None, None, 0, 0]
    assert [one["left_out"] for one in report["configurations"]] == [*["it classifies nothing"] * 2, None, None]
    assert report["reference"]["configuration"] == "onnxruntime-cpu, chunk 120"
    sentence = report["recommendation"]["sentence"]
    assert sentence.startswith("fastest with at most 50 flipped pixels per million: onnxruntime-cpu, chunk ")
    assert sentence in done.stdout.splitlines()
    collections = list(pystac.Collection.from_file(str(out / "collection.json")).get_children())
    assert [link["title"] for link in json.loads((out / "collection.json").read_text())["links"][1:]] == names
    assert all(len(list(collection.get_items())) == 1 for collection in collections)
    before = {path: path.read_bytes() for path in out.glob("jobs/*/1/*/run.json")}
    (grid,) = (out / report["configurations"][3]["jobs"][0]).glob("*/*_grid.npz")
    # Of another size it would be measured again.
    grid.write_bytes(grid.read_bytes()[:-1] + b"?")
    resumed = sweep(products, out)
    assert resumed.returncode == 1
    assert f"{grid.name}: is not what the map was made of" in resumed.stderr
    assert "\033" not in resumed.stderr
    # All its jobs are in the report, and none was measured again.
    assert before == {path: path.read_bytes() for path in before}
    report = json.loads((out / "report.json").read_text())
    assert [one["configuration"] for one in report["configurations"]] == names
    assert all(tile["reused"] for tile in report["tiles"])


def test_reports_of_a_sweep_are_those_that_its_jobs_replaced_whatever_the_time(tmp_path: Path) -> None:
    old, again, new = (write_job(tmp_path, chunk=chunk) / "report.json" for chunk in (512, 1024, 2048))
    left, before = identity(old), identity(again)
    # Written on a machine whose clock is years behind; a job that died before it wrote anything has left the old one.
    again.with_name("other").write_bytes(again.read_bytes())
    again.with_name("other").replace(again)
    for path in (again, new):
        os.utime(path, (10**9, 10**9))
    outcomes = [
        JobOutcome(job=0, task="benchmark", overrides=[], report=str(new)),
        JobOutcome(job=1, task="benchmark", overrides=[], report=str(old), replaces=left),
        JobOutcome(job=2, task="benchmark", overrides=[]),
        JobOutcome(job=3, task="benchmark", overrides=[], report=str(again), replaces=before),
        JobOutcome(job=4, task="benchmark", overrides=[], report=str(tmp_path / "jobs" / "none" / "1" / "report.json")),
    ]
    assert written(tmp_path, outcomes) == [new, again]


def test_without_jobs_nothing_is_written(tmp_path: Path) -> None:
    assert join(tmp_path, [], lambda _: None)
    assert not list(tmp_path.iterdir())
