"""A real MLflow server: a sweep of four jobs at once, read back through MLflow's client and seen in its pages."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.demo.product import write_product
from benexp.models.synthetic import varied_patches
from benexp.tracking.mlflow_client import Destination, import_mlflow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, *stores], stdout=log, stderr=log, env=quiet, start_new_session=True)
        try:
            uri = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=5).read()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.2)
            yield uri
        finally:
            # Its workers are its children.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class Sweep:
    uri: str
    output: Path
    client: Any
    parent: Any
    jobs: list[Any]


@pytest.fixture(scope="module")
def sweep(server: str, small_onnx: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    write_product(folder / "products", 240, 7)
    arguments = [
        *("-m", "task=benchmark", "model=onnx", f"model.path={small_onnx}", f"input_dir={folder / 'products'}"),
        *("backend=onnxruntime-cpu,null", "chunking.chunk_size=120,240", "benchmark.ceiling=false"),
        *("backend.threads=1", f"output_folder={folder / 'out'}", "tracking=mlflow", f"tracking.uri={server}"),
        *("tracking.patience=120", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"),
    ]
    done = subprocess.run([sys.executable, "-m", "benexp", *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "not recorded" not in done.stderr
    client = import_mlflow().MlflowClient(server)
    runs = client.search_runs([client.get_experiment_by_name("benexp").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return Sweep(server, folder / "out", client, parent, [run for run in runs if run is not parent])


def test_a_sweep_is_a_run_with_a_run_for_each_job(sweep: Sweep) -> None:
    assert {run.data.tags["mlflow.parentRunId"] for run in sweep.jobs} == {sweep.parent.info.run_id}
    assert {run.info.status for run in [*sweep.jobs, sweep.parent]} == {"FINISHED"}
    asked = {
        (run.data.params["backend._target_"].rsplit(".")[-1], run.data.params["chunking.chunk_size"])
        for run in sweep.jobs
    }
    assert asked == {(name, size) for name in ("OnnxRuntimeBackend", "NullBackend") for size in ("120", "240")}
    assert sweep.parent.info.run_name == "out"
    assert sweep.parent.data.tags["command"].startswith("benexp -m task=benchmark model=onnx")
    assert sweep.parent.info.start_time <= min(run.info.start_time for run in sweep.jobs)


def test_the_sweeps_run_has_the_joint_report(sweep: Sweep) -> None:
    assert (sweep.parent.data.metrics["jobs"], sweep.parent.data.metrics["problems"]) == (4, 0)
    files = {file.path for file in sweep.client.list_artifacts(sweep.parent.info.run_id)}
    assert {"report.json", "benchmark_report.csv", "command.txt"} <= files
    flips = [run.data.metrics["flips_per_million"] for run in sweep.jobs if _runs_onnx(run)]
    assert flips == [0, 0]


def _runs_onnx(run: Any) -> bool:
    return "OnnxRuntime" in run.data.params["backend._target_"]


def test_a_job_has_its_measurements_and_tags(sweep: Sweep) -> None:
    for run in sweep.jobs:
        metrics, tags = run.data.metrics, run.data.tags
        assert metrics["tiles.done"] == 1
        assert metrics["patches_per_second"] == pytest.approx(9 / metrics["seconds.total"], rel=1e-4)
        assert {"seconds.infer", "km2_per_second", "peak_rss_mb", "tile.seconds"} <= metrics.keys()
        assert "system/cpu_utilization_percentage" in metrics
        assert {"git_revision", "machine", "status", "map_hash", "config_hash"} <= tags.keys()
        assert tags["status"] == "done"
    history = sweep.client.get_metric_history(sweep.jobs[0].info.run_id, "tile.seconds")
    assert [metric.step for metric in history] == [0]


def test_a_job_has_what_it_wrote(sweep: Sweep, tmp_path: Path) -> None:
    run = sweep.jobs[0].info.run_id
    assert {"benchmark_report.csv", "command.txt", "config.yaml", "report.json", "tiles"} <= {
        file.path for file in sweep.client.list_artifacts(run)
    }
    (tile,) = [file.path for file in sweep.client.list_artifacts(run, "tiles")]
    names = {Path(file.path).name.rpartition("_")[2] for file in sweep.client.list_artifacts(run, tile)}
    assert {"viewer.html", "preview.png", "class.tif", "maxprob.tif", "run.json"} <= names
    command = Path(sweep.client.download_artifacts(run, "command.txt", str(tmp_path))).read_text()
    assert command.startswith("benexp task=benchmark model=onnx")


def test_the_model_is_logged_once_and_loads(sweep: Sweep, small_onnx: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    mlflow = import_mlflow()
    mlflow.set_tracking_uri(sweep.uri)
    (model,) = {run.data.tags.get("onnx_model") for run in sweep.jobs if _runs_onnx(run)}
    found = mlflow.models.get_model_info(model).signature
    (taken,), (given,) = found.inputs.inputs, found.outputs.inputs
    assert (taken.name, taken.type, taken.shape) == ("patches", np.dtype("float32"), (-1, 10, 120, 120))
    assert (given.name, given.shape) == ("probabilities", (-1, 19))
    patch = varied_patches(["B02"] * 10, 1, 120, seed=3).astype(np.float32)
    scores = [
        onnxruntime.InferenceSession(model_bytes).run(None, {"patches": patch})[0]
        for model_bytes in (mlflow.onnx.load_model(model).SerializeToString(), small_onnx.read_bytes())
    ]
    assert np.array_equal(*scores)


def test_a_run_is_gone_on_with_where_it_is_there_still(sweep: Sweep) -> None:
    destination = Destination(sweep.uri, "stopped", 1, 1)
    run = destination.open("out", "benexp -m seed=1,2", 1)
    destination.close(run, "interrupted", 2)
    assert destination.open("out", "benexp -m seed=1,2", 3, run) == run
    found = sweep.client.get_run(run)
    assert (found.info.status, found.data.tags["status"], found.info.start_time) == ("RUNNING", "running", 1000)
    destination.close(run, "done", 4)
    assert sweep.client.get_run(run).info.status == "FINISHED"
    sweep.client.delete_run(run)
    other = destination.open("out", "", 5, run)
    assert other not in (run, destination.open("out", "", 6, "0" * 32))


def test_the_sweep_is_seen_in_mlflows_pages(sweep: Sweep, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1600, "height": 800})
    experiment = f"{sweep.uri}/#/experiments/{sweep.parent.info.experiment_id}"
    page.goto(f"{experiment}/runs")
    page.get_by_text(sweep.parent.info.run_name, exact=True).first.wait_for(timeout=60_000)
    # The cross beside it unfolds what lies beneath.
    page.locator('[col-id="attributes.`Run Name`"] button').first.click()
    for run in sweep.jobs:
        page.get_by_text(run.info.run_name, exact=True).first.wait_for(timeout=60_000)
    page.goto(f"{experiment}/runs/{sweep.jobs[0].info.run_id}")
    page.get_by_text("patches_per_second", exact=True).first.wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "run.png")
    page.close()
