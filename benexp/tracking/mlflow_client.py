"""The client of MLflow: it sends runs to a server, or to a database file.

The same record gives the same run whenever it is sent, so that sending again what was cut off completes it.
"""

import contextlib
import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benexp.core.errors import BenexpError, one_line
from benexp.tracking.mlflow_metrics import flips_of_job
from benexp.tracking.mlflow_run import MlflowRun, mlflow_run_of, tags_of_command
from benexp.tracking.sent_records import ARTIFACTS, FoundRecord, Sent, mark, samples, sent

SETTINGS = {
    # A server that does not answer must not hold up anything for long.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "120",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # benexp's users agreed to none.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Or it asks for git's command.
    "GIT_PYTHON_REFRESH": "quiet",
}
"""MLflow's own variables, where the user sets none."""
LOCK_SECONDS = 20
"""Seconds to wait for a database file that others write to."""
SAMPLES = 200
"""Samples of the system that are sent of one run."""
PAGES = {"mlflow.experimentKind": "custom_model_development"}
"""Opens MLflow's pages for training and its like; those for language models come first otherwise."""
BATCH = 1000
"""Metrics that MLflow takes at once."""


class UnreachableError(Exception):
    """MLflow did not take what was sent; the message says why, in words."""


@contextlib.contextmanager
def _in_words(uri: str) -> Iterator[None]:
    """Whatever MLflow, its server or its database say, as one line."""
    try:
        yield
    except (UnreachableError, BenexpError):
        raise
    # There are the exceptions of MLflow, SQLAlchemy, requests and of every store of artifacts.
    except Exception as error:
        text = one_line(error)
        if "database is locked" in text:
            path = uri.removeprefix("sqlite:///").partition("?")[0]
            raise UnreachableError(f"{path} is locked: another program has been writing to it all the time") from error
        if re.search("Max retries|Failed to connect|Connection (refused|aborted)|timed out|resolve", text):
            raise UnreachableError(f"{uri} does not answer") from error
        raise UnreachableError(f"{uri}: {text[:300]}") from error


def import_mlflow() -> Any:
    """The library; some seconds, the first time. Raises BenexpError with the command to install it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ImportError as error:
        raise BenexpError(f"tracking=mlflow needs {error.name}: pip install 'benexp[mlflow]'") from error
    return mlflow


class Destination:
    """An experiment on a server, or in a database file; made where it does not exist yet.

    Raises UnreachableError where it cannot be.
    """

    def __init__(self, uri: str, experiment: str, max_file_mb: float, max_run_mb: float) -> None:
        self.uri = uri
        self._max_file, self._max_run = max_file_mb * 1e6, max_run_mb * 1e6
        self._mlflow = import_mlflow()
        with _in_words(uri):
            where = _patient(uri)
            _wait_for_lock(uri)
            self._mlflow.set_tracking_uri(where)
            self._client = self._mlflow.MlflowClient(where, where)
            self._experiment = self._find(experiment)

    def _find(self, name: str) -> str:
        """The experiment's id. Several jobs may be about to make it at once: one of them does."""
        from mlflow.exceptions import MlflowException

        folder = _database_folder(self.uri)
        artifacts = (folder / ARTIFACTS).as_uri() if folder else None
        if not (found := self._client.get_experiment_by_name(name)):
            try:
                return str(self._client.create_experiment(name, artifacts, PAGES))
            except MlflowException:
                if not (found := self._client.get_experiment_by_name(name)):
                    raise
        if found.lifecycle_stage != "active":
            raise UnreachableError(f"{self.uri}: experiment {name} was deleted: restore it, or set tracking.experiment")
        return str(found.experiment_id)

    def page(self, run_id: str) -> str:
        """The address of a run's page, or of its database."""
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{run_id}"
        return f"run {run_id} in {self.uri}"

    def send(self, record: FoundRecord, parent: str | None, run_id: str | None = None) -> str:
        """Send a record, if it was not sent yet, in the run given or one of its own; the run's id."""
        run = mlflow_run_of(record)
        before = sent(record, self.uri)
        if before and before.whole and run_id in (None, before.run_id):
            return before.run_id
        with _in_words(self.uri):
            run_id = run_id or (before.run_id if before else self._create(run, record.ended - run.seconds, parent))
            mark(record, {self.uri: Sent(run_id, whole=False)})
            self._fill(run_id, run, record.ended)
            self._log_samples(run_id, samples(record))
            self._client.set_terminated(run_id, run.status, int(record.ended * 1000))
            mark(record, {self.uri: Sent(run_id, whole=True)})
        return run_id

    def send_failure(self, run: MlflowRun, parent: str | None, ended: float) -> str:
        """Send a run that left no record; its id."""
        with _in_words(self.uri):
            run_id = self._create(run, ended - run.seconds, parent)
            self._fill(run_id, run, ended)
            self._client.set_terminated(run_id, run.status, int(ended * 1000))
        return run_id

    def open(self, name: str, command: str, began: float, before: str | None = None) -> str:
        """Begin the run that a sweep's runs lie beneath, or go on with the one from `before`, if it is there still."""
        with _in_words(self.uri):
            if before and self._is_there(before):
                self._client.update_run(before, "RUNNING")
                self._client.set_tag(before, "status", "running")
                return before
            tags = {"mlflow.runName": name, "mlflow.user": _user(), "status": "running", **tags_of_command(command)}
            run_id = str(self._client.create_run(self._experiment, int(began * 1000), tags).info.run_id)
            if command:
                self._client.log_text(run_id, f"{command}\n", "command.txt")
        return run_id

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def close(self, run_id: str, status: str, ended: float) -> None:
        with _in_words(self.uri):
            self._client.set_tag(run_id, "status", status)
            self._client.set_terminated(run_id, STATUS_OF_SWEEP[status], int(ended * 1000))

    def adopt(self, job: FoundRecord, parent: str, sweep: FoundRecord | None) -> None:
        """Put a job's run, if it was sent, beneath that of its sweep, whose report may know more of it."""
        there = sent(job, self.uri)
        if there is None:
            return
        with _in_words(self.uri):
            # It may be of an earlier sweep's, which this one goes on with.
            if self._client.get_run(there.run_id).data.tags.get("mlflow.parentRunId") != parent:
                self._client.set_tag(there.run_id, "mlflow.parentRunId", parent)
            for name, value in (flips_of_job(sweep, job) if sweep else {}).items():
                self._client.log_metric(there.run_id, name, value, int(job.ended * 1000), 0)

    def _create(self, run: MlflowRun, began: float, parent: str | None) -> str:
        tags = {"mlflow.runName": run.name, "mlflow.user": _user()}
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        return str(self._client.create_run(self._experiment, int(began * 1000), tags).info.run_id)

    def _fill(self, run_id: str, run: MlflowRun, ended: float) -> None:
        from mlflow.entities import Metric, Param, RunTag

        moment = int(ended * 1000)
        params = [Param(name, value) for name, value in run.params.items()]
        metrics = [Metric(name, value, moment, step) for name, value, step in run.metrics]
        tags = [RunTag(name, value) for name, value in run.tags.items()]
        for some in _batches(params, 100):
            self._client.log_batch(run_id, params=some)
        for some in _batches(metrics, BATCH):
            self._client.log_batch(run_id, metrics=some)
        for some in _batches(tags, 100):
            self._client.log_batch(run_id, tags=some)
        if run.config:
            self._client.log_text(run_id, OmegaConf.to_yaml(OmegaConf.create(dict(run.config))), "config.yaml")
        if run.command:
            self._client.log_text(run_id, f"{run.command}\n", "command.txt")
        self._log_files(run_id, run.files)
        self._log_models(run_id, run)

    def _log_files(self, run_id: str, files: Sequence[tuple[Path, str]]) -> None:
        left, beyond = self._max_run, []
        for path, folder in files:
            size = path.stat().st_size
            if size > min(self._max_file, left):
                beyond.append({"path": str(path.resolve()), "bytes": size})
                continue
            left -= size
            self._client.log_artifact(run_id, str(path), folder or None)
        if beyond:
            self._client.log_text(run_id, json.dumps(beyond, indent=2), "not_copied.json")

    def _log_samples(self, run_id: str, taken: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        every = -(-len(taken) // SAMPLES) or 1
        metrics = [
            Metric(name, value, int(sample["time"] * 1000), step)
            for step, sample in enumerate(taken[::every])
            for name, value in sample["metrics"].items()
        ]
        for some in _batches(metrics, BATCH):
            self._client.log_batch(run_id, metrics=some)

    def _log_models(self, run_id: str, run: MlflowRun) -> None:
        """Log the .onnx files that a run made or used, each once for all runs, and tie them to the run."""
        from mlflow.entities import LoggedModelInput

        for path in run.models:
            with _alone(path):
                model_id = self._logged(path) or self._log_model(run_id, path, run)
            self._client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
            self._client.set_tag(run_id, "onnx_model", f"models:/{model_id}")

    def _logged(self, path: Path) -> str | None:
        digest = _digest(path)
        found = self._client.search_logged_models([self._experiment], f"tags.sha256 = '{digest}'", max_results=5)
        return next((str(model.model_id) for model in found if str(model.status) == "READY"), None)

    def _log_model(self, run_id: str, path: Path, run: MlflowRun) -> str:
        """Log an .onnx file with its signature; `mlflow.onnx.load_model("models:/<id>")` loads it."""
        try:
            import onnx
        except ImportError as error:
            raise UnreachableError(f"logging {path.name} needs {error.name}: pip install 'benexp[mlflow]'") from error
        loaded = onnx.load(str(path))
        with self._mlflow.start_run(run_id):
            logged = self._mlflow.onnx.log_model(
                loaded,
                name=key_of_model(path),
                signature=_signature(loaded),
                # Or MLflow would load the model in a process of its own, to see what it needs.
                pip_requirements=["onnxruntime"],
                metadata={entry.key: entry.value for entry in loaded.metadata_props if len(entry.value) < 500},
                tags={"sha256": _digest(path), "file": path.name, "command": run.command[:500]},
                save_as_external_data=False,
            )
        return str(logged.model_id)


STATUS_OF_SWEEP = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def key_of_model(path: Path) -> str:
    """A model's name as MLflow takes it: without / : . % and quotes."""
    return re.sub(r"[^\w-]+", "-", path.stem)


def _signature(loaded: Any) -> Any:
    """The model's inputs and outputs, from its graph."""
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(value: Any) -> Any:
        tensor = value.type.tensor_type
        dimensions = tensor.shape.dim
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dimensions)
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        return TensorSpec(kind, shape, value.name)

    inputs, outputs = ([spec(value) for value in values] for values in (loaded.graph.input, loaded.graph.output))
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One at a time of the jobs that run one file: the first logs it, the others find it logged."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    from benexp.models.published import sha256

    return sha256(path)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _database_folder(uri: str) -> Path | None:
    """The folder of a database file; None for a server."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve().parent


def _wait_for_lock(uri: str) -> None:
    """Be sure that a database file can be written to: MLflow would try for many minutes."""
    folder = _database_folder(uri)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


def _patient(uri: str) -> str:
    """A database file that waits for its turn: SQLite's own patience ends after 5 s."""
    if not uri.startswith("sqlite:///") or "?" in uri:
        return uri
    return f"{uri}?timeout={LOCK_SECONDS}"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, in a container
        return "unknown"
