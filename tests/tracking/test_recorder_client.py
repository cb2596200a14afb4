"""Runs go on, and are complete, whatever becomes of MLflow; what could not be sent is sent later."""

import contextlib
import logging
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp.cli.app import main
from benexp.demo.product import write_product
from benexp.measure.environment import environment
from benexp.records.run import RunRecord
from benexp.tracking import mlflow_client, recorder_client
from benexp.tracking.mlflow_client import Destination, UnreachableError
from benexp.tracking.sent_records import find, samples, sent
from tests.tracking.builders import benchmark_record, run_record, sweep_record, tile

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("product"), 240, 7)[0]


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def command(product: Path, output: Path, *more: str) -> list[str]:
    return ["model=demo", "backend=null", f"tile_folder={product}", f"output_folder={output}", "tracking=mlflow", *more]


def test_without_a_server_a_run_is_complete_and_is_sent_later(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        assert main(command(product, out, f"tracking.uri={NOBODY}")) == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"not recorded in MLflow: {NOBODY} does not answer; nothing is lost: send it later")
    (record,) = find(out)
    assert sent(record, NOBODY) is None
    assert "system/cpu_utilization_percentage" in samples(record)[0]["metrics"]

    uri = f"sqlite:///{tmp_path}/later.db"
    arguments = ["task=upload", "tracking=mlflow", f"output_folder={out}", f"tracking.uri={uri}"]
    assert main(arguments) == 0
    known = sent(record, uri)
    assert known
    assert known.whole
    run = mlflow_client.import_mlflow().MlflowClient(uri).get_run(known.run_id)
    assert isinstance(record.content, RunRecord)
    assert run.data.tags["map_hash"] == record.content.map_hash
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.info.end_time == int(record.ended * 1000)
    capsys.readouterr()
    assert main(arguments) == 0
    assert "to send to" in (said := capsys.readouterr().out)
    assert said.rstrip().endswith(": 0")


def test_tiles_that_are_done_are_told_of_where_another_failed(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri, out = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "out"
    for name in ("a", "b"):
        shutil.copytree(product, tmp_path / "products" / f"{name}.SAFE")
    next((tmp_path / "products" / "b.SAFE").rglob("*_B08_10m.jp2")).unlink()
    arguments = [f"input_dir={tmp_path / 'products'}", f"output_folder={out}", "tracking=mlflow", f"tracking.uri={uri}"]
    assert main(["model=demo", "backend=null", *arguments]) == 1
    assert "1 of 2 products failed: b.SAFE" in caplog.text
    (record,) = find(out)
    known = sent(record, uri)
    assert known and known.whole
    # One by itself is sent nowhere: it is an error at once.
    assert main(command(tmp_path / "products" / "b.SAFE", tmp_path / "b", f"tracking.uri={NOBODY}")) == 1
    assert "not recorded" not in caplog.text


def test_a_server_that_never_answers_is_waited_for_no_longer_than_patience(
    product: Path, tmp_path: Path, silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(command(product, tmp_path, f"tracking.uri={silent}", "tracking.patience=0.5")) == 0
    assert "took longer than tracking.patience=0.5 s" in caplog.text
    assert len(list(find(tmp_path))) == 1


def test_a_locked_database_is_said_in_clear_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_client, "LOCK_SECONDS", 0.1)
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnreachableError, match="mlflow.db is locked: another program"):
            Destination(f"sqlite:///{path}", "benexp", 1, 1)


def test_what_was_cut_off_is_completed_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_record(tmp_path / "a")
    (record,) = find(tmp_path)
    destination = Destination(uri, "benexp", max_file_mb=0.02, max_run_mb=1)
    with monkeypatch.context() as patch:
        patch.setattr(destination, "_log_files", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(UnreachableError, match="disk full"):
            destination.send(record, None)
    before = sent(record, uri)
    assert before
    assert not before.whole
    assert destination.send(record, None) == before.run_id
    client = mlflow_client.import_mlflow().MlflowClient(uri)
    assert client.get_run(before.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(before.run_id, "seconds.total")) == 1
    # Beyond tracking.max_file_mb there is the path.
    names = {artifact.path for artifact in client.list_artifacts(before.run_id)}
    assert names == {"command.txt", "config.yaml", "not_copied.json", "run.json", "viewer.html"}
    folder = Path(client.download_artifacts(before.run_id, "not_copied.json"))
    assert str(tmp_path / "a" / "a_class.tif") in folder.read_text()


def test_what_was_measured_before_is_no_second_run_and_moves_to_the_sweep_that_goes_on(tmp_path: Path) -> None:
    uri, job = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "out" / "jobs" / "c" / "1"
    destination = Destination(uri, "benexp", 1, 1)
    first, second = (destination.open("out", "", time.time()) for _ in range(2))
    benchmark_record(job, tile("a", reused=False))
    (record,) = find(job)
    run_id = destination.send(record, first)
    benchmark_record(job, tile("a", reused=True), command="benexp again", environment=environment())
    (record,) = find(job)
    assert destination.send(record, second) == run_id
    destination.adopt(record, second, None)
    client = mlflow_client.import_mlflow().MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("benexp").experiment_id])
    assert {run.info.run_id for run in runs} == {first, second, run_id}
    assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == second


def test_a_sweep_is_sent_later_as_a_whole(tmp_path: Path) -> None:
    uri, out = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "out"
    sweep_record(out, "jobs/c/1", "jobs/d/1")
    for name in ("c", "d"):
        benchmark_record(out / "jobs" / name / "1", tile("a"), config_hash=name)
    assert main(["task=upload", "tracking=mlflow", f"output_folder={out}", f"tracking.uri={uri}"]) == 0
    client = mlflow_client.import_mlflow().MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("benexp").experiment_id])
    (above,) = [run for run in runs if run.info.run_name == "out"]
    jobs = [run for run in runs if run is not above]
    assert [run.data.tags["mlflow.parentRunId"] for run in jobs] == [above.info.run_id] * 2
    assert [run.data.metrics.get("flips_per_million") for run in jobs].count(7) == 1
    assert above.data.tags["recommendation"] == "fastest: null"
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_a_sweep_could_not_send_is_sent_from_its_folder(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*command(product, tmp_path / "out", f"tracking.uri={NOBODY}"), "-m", "seed=1,2"]) == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.endswith(f"output_folder={tmp_path / 'out'}")


@pytest.mark.filterwarnings("error")
def test_a_sweep_that_cannot_write_begins_no_run(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(recorder_client, "_Recorder", lambda *_: pytest.fail("there is no run"))
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        caplog.clear()
        assert main([*command(product, out), "-m", "seed=1,2"]) == 1
        (record,) = caplog.records
        assert str(tmp_path / "file") in record.getMessage()


def test_without_the_library_a_line_says_how_to_install_it(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_client, "_is_installed", lambda: False)
    monkeypatch.setenv("BENEXP_TRACKING", "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = [argument for argument in command(product, tmp_path / "a") if not argument.startswith("tracking")]
    with caplog.at_level(logging.INFO):
        assert main(asked) == 0
    assert "not recorded in MLflow, which is not installed: pip install 'benexp[mlflow]'" in caplog.text
    assert main(command(product, tmp_path / "b")) == 1
    assert "tracking=mlflow needs mlflow: pip install 'benexp[mlflow]', or set tracking=none" in caplog.text
    assert not (tmp_path / "b").exists()


def test_a_mistake_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_client._Recorder, "ask", lambda *_: pytest.fail("a mistake is no run"))
    assert main(command(tmp_path / "nothing", tmp_path / "out")) == 1
    assert not recorder_client._recorders


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.uri=http://me:secret@host", "takes one without a password"),
        ("tracking.patience=0", "tracking.patience=0.0: takes seconds, more than 0"),
        ("tracking.max_file_mb=-1", "tracking.max_file_mb=-1.0: takes a number from 0"),
        ("tracking.server=x", "unknown key tracking.server"),
    ],
)
def test_wrong_settings_are_told_before_any_work(
    override: str, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(command(tmp_path, tmp_path / "out", override)) == 1
    assert message in caplog.text
    assert "secret" not in caplog.text
    assert not recorder_client._recorders


def test_there_must_be_something_to_send(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["task=upload", f"output_folder={tmp_path}"]) == 1
    assert "set tracking=mlflow" in caplog.text
    assert main(["task=upload", "tracking=mlflow", f"output_folder={tmp_path}"]) == 1
    assert "there is no record of a finished run in it" in caplog.text
