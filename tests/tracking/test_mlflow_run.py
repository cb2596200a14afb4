"""Runs of MLflow from made-up records."""

from pathlib import Path
from typing import Any

from benexp.measure.environment import environment
from benexp.tracking.mlflow_metrics import flips_of_job, key
from benexp.tracking.mlflow_run import JobFailure, MlflowRun, mlflow_run_of, mlflow_run_of_failure
from benexp.tracking.sent_records import FoundRecord, read
from tests.tracking.builders import (
    CONFIG,
    benchmark_record,
    comparison_record,
    failure,
    map_evaluation,
    patch_evaluation,
    run_record,
    sweep_record,
    tile,
)


def run_of(path: Path) -> MlflowRun:
    record = read(path)
    assert isinstance(record, FoundRecord)
    return mlflow_run_of(record)


def latest(found: MlflowRun) -> dict[str, float]:
    return {name: value for name, value, _ in found.metrics}


def test_a_classified_tile(tmp_path: Path) -> None:
    found = run_of(run_record(tmp_path / "a"))
    assert (found.name, found.status, found.seconds) == ("a", "FINISHED", 2.0)
    assert found.params["chunking.chunk_size"] == "2048"
    assert (found.params["mask.scl"], found.params["tile_folder"]) == ("[3, 8]", "null")
    assert not any(name.startswith("tracking") for name in found.params)
    metrics = latest(found)
    assert (metrics["patches_per_second"], metrics["km2_per_second"]) == (20, 1)
    assert (metrics["seconds.infer"], metrics["peak_rss_mb"]) == (1.5, 200)
    assert (found.tags["git_revision"], found.tags["machine"], found.tags["status"]) == ("1234567", "abc", "done")
    # Pages first: what is too much is left out from the end.
    assert [path.name for path, _ in found.files] == ["run.json", "viewer.html", "a_class.tif"]


def test_a_grid_that_was_reused_tells_no_speed(tmp_path: Path) -> None:
    assert "patches_per_second" not in latest(run_of(run_record(tmp_path, grid_reused=True)))


def test_a_comparison_has_figures_of_each_backend(tmp_path: Path) -> None:
    found = run_of(comparison_record(tmp_path))
    assert (found.name, found.tags["task"], found.tags["model"]) == ("T33UUP", "compare", "resnet50-s2")
    assert not {"provider", "map_hash"} & found.tags.keys()
    assert latest(found) == {
        "seconds.total": 9.0,
        **{"patches_per_second.torch": 10.0, "patches_per_second.openvino-int8": 20.0},
        **{"flips_per_million.torch": 0.0, "flips_per_million.openvino-int8": 1.0},
        **{"prob_diff_max.torch": 0.0, "prob_diff_max.openvino-int8": 0.1},
        **{"prob_diff_mean.torch": 0.0, "prob_diff_mean.openvino-int8": 0.01},
    }


def test_an_evaluated_map_has_its_scores_and_what_is_known_of_its_model(tmp_path: Path) -> None:
    found = run_of(map_evaluation(tmp_path))
    assert (found.name, found.seconds, found.tags["task"]) == ("T33UUP", 3.0, "evaluate")
    assert (found.tags["model"], found.tags["provider"], found.tags["map_hash"]) == ("demo", "none", "ab" * 32)
    assert latest(found) == {
        **{"seconds.total": 3.0, "pixels.compared": 100, "pixels.left_out.without a class": 20},
        **{"overall_accuracy": 0.75, "kappa": 0.5, "macro.f1": 0.5},
        **{"class.0.precision": 0.25, "class.0.recall": 1.0, "class.0.f1": 0.4},
    }
    assert "model" not in run_of(map_evaluation(tmp_path, model=None)).tags


def test_evaluated_patches_have_their_scores_and_speed(tmp_path: Path) -> None:
    found = run_of(patch_evaluation(tmp_path))
    assert found.tags["model"] == "resnet50-s2"
    assert "map_hash" not in found.tags
    assert latest(found) == {
        **{"seconds.total": 3.0, "patches.evaluated": 100, "patches.left_out.without a label": 20},
        **{"macro.f1": 0.5, "micro.f1": 0.625, "patches_per_second": 40.0, "stage_seconds.infer": 2.5},
        **{"class.0.average_precision": 0.875, "class.0.precision": 0.25, "class.0.recall": 1.0, "class.0.f1": 0.4},
    }


def test_a_benchmark_has_a_step_for_each_tile(tmp_path: Path) -> None:
    failed = failure("b", "no B02")
    found = run_of(benchmark_record(tmp_path, tile("a"), failed, tile("c", 4.0), status="failed"))
    assert (found.name, found.status) == ("null fp32 chunk 2048 stride 60 batch 32 #2", "FAILED")
    assert [(value, step) for name, value, step in found.metrics if name == "tile.seconds"] == [(2.0, 0), (4.0, 2)]
    metrics = latest(found)
    assert (metrics["seconds.total"], metrics["seconds.infer"], metrics["latency_ms.p50"]) == (6.0, 3.0, 4.0)
    assert (metrics["tiles.failed"], metrics["joules.cpu"], metrics["ceiling.km2_per_second"]) == (1, 10, 9)
    assert "latency_ms.p90" not in metrics  # too few batches to know
    assert (found.tags["errors"], found.tags["verdicts"]) == ("b: no B02", "other-load")
    assert {folder for _, folder in found.files} == {"", "tiles/a", "tiles/c"}


def test_a_benchmark_of_a_region_has_the_files_of_its_folder(tmp_path: Path) -> None:
    found = run_of(benchmark_record(tmp_path, tile("a", folder="a/region-0-0-120-120")))
    assert [path.name for path, folder in found.files if folder == "tiles/a"] == [
        *("viewer.html", "run.json", "a_class.tif"),
    ]


def test_a_benchmark_that_failed_before_it_measured_has_its_error(tmp_path: Path) -> None:
    failed = failure("", "no weights")
    found = run_of(benchmark_record(tmp_path, failed, status="failed", totals=None, startups=[], ceiling=None))
    assert (found.status, found.metrics, found.tags["errors"]) == ("FAILED", [], "no weights")


def test_a_sweep_has_the_parameters_that_its_jobs_share(tmp_path: Path) -> None:
    other = CONFIG | {"chunking": {"chunk_size": 1024, "stride": 60}}
    benchmark_record(tmp_path / "jobs" / "c" / "1", tile("a"))
    benchmark_record(tmp_path / "jobs" / "d" / "1", tile("a"), config=other)
    found = run_of(sweep_record(tmp_path, "jobs/c/1", "jobs/d/1", "jobs/gone/1"))
    assert found.params["chunking.stride"] == "60"
    assert "chunking.chunk_size" not in found.params
    recommended = {"patches_per_second": 20, "memory_mb": 100, "flips_per_million": 7}
    expected = {"jobs": 3, "configurations": 1, "problems": 0}
    assert latest(found) == expected | {f"recommended.{name}": value for name, value in recommended.items()}
    assert found.tags["recommendation"] == "fastest: null"
    sweep, job = read(tmp_path / "report.json"), read(tmp_path / "jobs" / "c" / "1" / "report.json")
    assert sweep
    assert job
    assert flips_of_job(sweep, job) == {"flips_per_million": 7}
    # One that goes on may come to share fewer.
    benchmark_record(tmp_path / "jobs" / "d" / "1", tile("a"), status="interrupted")
    assert run_of(tmp_path / "report.json").params == {}


def test_what_is_too_long_is_cut(tmp_path: Path) -> None:
    long: dict[str, Any] = CONFIG | {"backends": ["x" * 7000], "k" * 300: 1}
    found = run_of(run_record(tmp_path, config=long, command="benexp " + "y" * 9000))
    assert len(found.params["backends"]) == 6000
    assert found.params["backends"].endswith("...")
    assert max(map(len, found.params)) == 250
    assert max(map(len, found.tags.values())) <= 8000
    assert key("flips_per_million.openvino:int8") == "flips_per_million.openvino-int8"


def test_a_job_without_a_record_tells_its_error() -> None:
    known: dict[str, Any] = {"config": CONFIG, "config_hash": "c", "environment": environment()}
    failed = JobFailure(task="classify", command="benexp", error="no B02", seconds=1.0, **known)
    found = mlflow_run_of_failure(failed)
    assert (found.status, found.tags["errors"]) == ("FAILED", "no B02")
