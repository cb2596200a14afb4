"""One configuration measured over products: the report, the table and the page, of a benchmark and of a sweep."""

import json
from pathlib import Path

import jsonschema
import pystac
import pytest

from benexp.cli.app import main
from benexp.records.job import JobReport
from benexp.records.report_files import COLUMNS
from benexp.records.storage import json_schema, read_record, to_dict
from benexp.records.sweep import SweepReport
from tests.benchmarking.builders import FAST, report, start, table

pytestmark = pytest.mark.usefixtures("no_plots")


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


def check_schema(folder: Path, kind: type[JobReport] | type[SweepReport]) -> None:
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    found = report(folder)
    validator.validate(found)
    # It holds what it says: of another type, or without a part, a report is refused.
    assert not validator.is_valid(found | {"tiles": [{"tile": 1}]})
    assert not validator.is_valid({key: value for key, value in found.items() if key != "environment"})
    # Nothing is written that the type does not have, and nothing is lost by reading it.
    assert to_dict(read_record(folder / "report.json", kind)) == found


def test_a_written_report_keeps_to_its_schema(done: Path) -> None:
    check_schema(done, JobReport)


def test_repeats_of_a_sweep_lie_beside_each_other(products: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    assert start(products, wrong, "-m", "benchmark.repeat=1,2", "+x=") == 1  # an unknown key, before any work
    assert not list(wrong.rglob("first"))
    assert start(products, tmp_path, "-m", "benchmark.repeat=1,2") == 0
    (job,) = (tmp_path / "jobs").iterdir()
    assert sorted(path.name for path in job.iterdir()) == ["1", "2"]
    assert [report(job / repeat)["tiles"][0]["repeat"] for repeat in "12"] == [1, 2]
    assert all(report(job / repeat)["ceiling"] is None for repeat in "12")
    check_schema(tmp_path, SweepReport)
    joint = report(tmp_path)
    assert joint["status"] == "done"
    assert joint["jobs"] == [f"jobs/{job.name}/1", f"jobs/{job.name}/2"]
    (found,) = joint["configurations"]
    assert (found["configuration"], found["repeats"], found["failed"]) == ("null", [1, 2], [])
    assert [(row["tile_name"], row["repeat"]) for row in table(tmp_path)] == [
        *(("first", "1"), ("second", "1")),
        *(("first", "2"), ("second", "2")),
    ]
