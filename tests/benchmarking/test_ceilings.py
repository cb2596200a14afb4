"""The ceiling of a sweep: measured once for each chunk size and repeat, and in every report."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from benexp.benchmarking import benchmark_job, configuration_run
from benexp.benchmarking.ceilings import BEATEN, NULL, without_model
from benexp.benchmarking.measured_run import Request
from benexp.config.hashing import config_hash
from benexp.records.job import Measurements
from benexp.records.storage import read_record, to_dict
from benexp.records.tile import KnownTile
from benexp.runs.plan import plan_run
from tests.benchmarking.builders import report, start, write
from tests.records.builders import done_tile
from tests.runs.test_quantization import config


def test_six_configurations_over_two_chunk_sizes_pay_two_ceilings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured: Counter[int] = Counter()

    def work(module: str, request: Request) -> Iterator[dict[str, Any]]:
        """Stands in for the process that measures: models fail on the second product."""
        without = request.plan.backend.settings["_target_"] == NULL
        for product in request.todo:
            if without:
                measured[request.plan.chunking.chunk_size] += 1
            found: dict[str, Any] = {"status": "failed", "error": "not today"}
            if without or product.name == "a":
                seconds = 1.0 if without else 0.5
                fields = to_dict(done_tile(product.name, seconds, patches=1, km2=2.0)).items()
                found = {key: value for key, value in fields if key not in KnownTile.__struct_fields__}
            yield {"begins": str(product)}
            yield {"ends": str(product), "found": found}

    monkeypatch.setattr(configuration_run, "messages", work)
    monkeypatch.setattr(benchmark_job, "write_collection", lambda *_: None)
    for module in ("benchmark_job", "sweep_report"):
        monkeypatch.setattr(f"benexp.benchmarking.{module}.write_plots", lambda *_: [])
    products, out = write(tmp_path / "in", a=None, b=None), tmp_path / "out"
    start(products, out, "-m", "chunking.chunk_size=512,1024", "backend.batch_size=1,2,4", backend="Moody")
    # Of the product alone that there is a speed to hold it against.
    assert measured == {512: 1, 1024: 1}
    jobs = [report(path.parent) for path in out.glob("jobs/*/1/report.json")]
    assert len(jobs) == 6
    assert [[tile["tile"] for tile in one["ceiling"]["tiles"]] for one in jobs] == [["a"]] * 6
    assert all(one["ceiling"]["totals"]["km2_per_second"] == 2 for one in jobs)
    # A sweep that begins anew measures anew.
    start(products, out, "-m", "chunking.chunk_size=512", "backend.batch_size=1", "resume=false", backend="Moody")
    assert measured == {512: 2, 1024: 1}
    # Each repeat has its own, whichever comes first: the machine may be another's for a while.
    late = ("-m", "chunking.chunk_size=512", "benchmark.repeat=2,3", "backend.batch_size=1,2")
    start(products, tmp_path / "late", *late, backend="Moody")
    assert measured == {512: 4, 1024: 1}
    found = [report(path.parent)["ceiling"] for path in tmp_path.glob("late/jobs/*/*/report.json")]
    assert [[tile["tile"] for tile in ceiling["tiles"]] for ceiling in found] == [["a"]] * 4
    # A benchmark by itself shares nothing.
    caplog.clear()
    start(products, tmp_path / "alone", backend="Moody")
    assert caplog.text.count(BEATEN) == 1
    assert not (tmp_path / "alone" / "ceilings").exists()


def test_a_ceiling_is_planned_as_its_own_configuration_would_be(tmp_path: Path) -> None:
    asked = config("task=benchmark", "model=demo", "backend=onnxruntime-cpu", "chunking.chunk_size=512")
    plan = without_model(plan_run(asked, ["model=demo"], [tmp_path]), tmp_path / "scratch")
    own = replace(asked, output_folder=str(tmp_path / "scratch"), backend={"_target_": NULL, "batch_size": 32})
    expected = plan_run(own, ["model=demo"], [tmp_path])
    names = {field.name for field in fields(plan)} - {"layers"}  # made anew, as functions that are never equal
    assert {name: getattr(plan, name) for name in names} == {name: getattr(expected, name) for name in names}
    assert plan.config_hash == config_hash(own)


def test_a_ceiling_of_an_unknown_version_is_measured_anew_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    products, out = write(tmp_path / "in", a=None), tmp_path / "out"
    assert start(products, out, "-m", "benchmark.repeat=1", "benchmark.ceiling=true", backend="Moody") == 0
    (file,) = out.glob("ceilings/*.json")
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    next(out.glob("jobs/*/1/report.json")).unlink()
    assert start(products, out, "-m", "benchmark.repeat=1", "benchmark.ceiling=true", backend="Moody") == 0
    assert f"{file}: has schema version 99" in caplog.text
    assert "the ceiling is measured anew" in caplog.text
    assert read_record(file, Measurements).done
