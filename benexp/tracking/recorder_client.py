"""The working process's end of tracking: it starts the recorder, asks it to tell of what was done, and waits, but not
for long. Nothing here raises for what MLflow does, or fails to do.
"""

import atexit
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benexp.config.command import command
from benexp.config.hashing import config_hash
from benexp.config.schema import Config, Tracking
from benexp.core.errors import BenexpError
from benexp.tracking.sent_records import find, forget_parent

log = logging.getLogger("benexp")

TASKS = ("classify", "benchmark", "compare", "evaluate", "export")
"""Whose records MLflow is told of."""
INSTALL = "pip install 'benexp[mlflow]'"


class _Recorder:
    """The other process. It is asked and answers; a late answer is no answer."""

    def __init__(self, tracking: Tracking) -> None:
        assert tracking.uri
        self._tracking = tracking
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._is_ready = self._said_where = self._gave_up = False
        self.sweeps: dict[str, float] = {}
        """The folders of the sweeps that were opened, and when."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        # -P keeps a folder that happens to be the current one out of what can be imported.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benexp.tracking.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            encoding="utf-8",
            # Ctrl-C reaches the work alone.
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="recorder-answers", daemon=True)
        self._listener.start()
        names = ("uri", "experiment", "max_file_mb", "max_run_mb")
        self._write({name: getattr(tracking, name) for name in names})
        self._waiting = 0

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self._answers.put({"failed": f"the process that records ended: {said[-1] if said else 'it said nothing'}"})

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it ended, and the answer says so
            self._process.stdin.write(json.dumps(message, default=str) + "\n")
            self._process.stdin.flush()

    def wait_until_ready(self, folder: str) -> None:
        """Wait until MLflow is imported, so that no measuring begins while it still is."""
        if not self._is_ready and not self._gave_up:
            answer = self._next(time.monotonic() + self._tracking.patience)
            self._is_ready = "ready" in answer
            if not self._is_ready:
                self._give_up(answer, folder)

    def post(self, request: Mapping[str, Any]) -> None:
        """Ask for what nobody waits for."""
        self._write(request)
        self._waiting += 1

    def ask(self, request: Mapping[str, Any]) -> None:
        """Ask, wait for the answer, and say where to look at what was recorded, or that it was not."""
        end = time.monotonic() + self._tracking.patience
        # Of a sweep all that could not be sent, not this job's alone.
        folder = str(request.get("sweep") or request["folder"])
        self.wait_until_ready(folder)
        self.post(request)
        answer: dict[str, Any] = {}
        while self._waiting and not self._gave_up:
            answer = self._next(end)
            self._waiting -= 1
            if "failed" in answer:
                self._give_up(answer, folder)
        if answer.get("page") and not self._said_where:
            self._said_where = True
            log.info("recorded in MLflow: %s%s", answer["page"], _how_to_look(str(self._tracking.uri)))

    def _next(self, end: float) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            return {"failed": f"{self._tracking.uri}: took longer than tracking.patience={self._tracking.patience:g} s"}

    def _give_up(self, answer: Mapping[str, Any], folder: str) -> None:
        """Say so, once. The recorder goes on with what it is at only where it is still wanted."""
        if not self._gave_up:
            later = ["benexp", "task=report", "tracking=mlflow", f"tracking.uri={self._tracking.uri}"]
            log.warning(
                "not recorded in MLflow: %s; nothing is lost: send it later with %s",
                answer["failed"],
                shlex.join([*later, f"output_folder={folder}"]),
            )
        self._gave_up = True

    def stop(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._errors.close()


_recorders: dict[str, _Recorder] = {}
"""Those of this process: the jobs of a sweep that run in it share one."""


def _recorder(tracking: Tracking) -> _Recorder:
    asked = json.dumps(dataclasses.asdict(tracking))
    if asked not in _recorders:
        if not _recorders:
            atexit.register(stop)
        _recorders[asked] = _Recorder(tracking)
    return _recorders[asked]


def stop() -> None:
    """End the recorders of this process. What they were asked for and waited for is done."""
    while _recorders:
        _recorders.popitem()[1].stop()


def is_wanted(config: Config, overrides: Sequence[str]) -> bool:
    """Whether MLflow is to be told of the run, and can be.

    Without the library, a line says how to install it. Raises BenexpError where the user asked for MLflow by name.
    """
    if config.tracking.name != "mlflow" or config.task.name not in TASKS or config.dry_run:
        return False
    if _is_installed():
        return True
    by_name = any(override.lstrip("+").startswith("tracking") for override in overrides)
    if by_name or "MLFLOW_TRACKING_URI" in os.environ:
        raise BenexpError(f"tracking=mlflow needs mlflow: {INSTALL}, or set tracking=none")
    log.info("not recorded in MLflow, which is not installed: %s (tracking=none: never)", INSTALL)
    return False


def _is_installed() -> bool:
    return importlib.util.find_spec("mlflow") is not None


@contextlib.contextmanager
def tracked(config: Config, overrides: Sequence[str], sweep: Path | None) -> Iterator[None]:
    """Tell MLflow of what is done in the block: of its records, also where not all of it could be done, or, in a
    `sweep`, of how it failed without one.

    An interrupt is not held up: `task=report` tells later of what was done.
    """
    if not is_wanted(config, overrides):
        yield
        return
    recorder = _recorder(config.tracking)
    folder = str(Path(config.output_folder).resolve())
    above = str(sweep.expanduser().resolve()) if sweep else None
    if config.task.name == "benchmark":
        recorder.wait_until_ready(above or folder)
    began = time.time()
    request = {
        "do": "send",
        "folder": folder,
        "began": began,
        "command": command(overrides),
        "sweep": above,
        "failure": None,
    }
    try:
        yield
    except Exception as error:
        # Alone, a mistake is an error on the screen at once. In a sweep nobody looks.
        if sweep:
            recorder.ask(request | {"failure": _failure(config, request, error)})
        elif any(record.command == request["command"] for record in find(Path(folder), began)):
            recorder.ask(request)  # other tiles are done
        raise
    else:
        recorder.ask(request)
    finally:
        if not sweep:
            stop()


def _failure(config: Config, request: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    from benexp.measure.environment import environment

    return {
        "task": config.task.name,
        "status": "failed",
        "command": request["command"],
        "config": dataclasses.asdict(config),
        "config_hash": config_hash(config),
        "environment": environment(),
        "problems": [str(error)],
        "seconds": time.time() - request["began"],
    }


def open_sweep(config: Config, overrides: Sequence[str]) -> None:
    """Begin the run that those of the sweep's jobs lie beneath, while the first of them begin.

    The same command goes on in the run that it began, however it was stopped, unless `resume=false`.
    """
    folder = str(Path(config.output_folder).expanduser().resolve())
    recorder = _recorder(config.tracking)
    began = time.time()
    asked = command(overrides, "-m")
    forget_parent(Path(folder), unless=asked if config.resume else None)
    recorder.post({"do": "open", "folder": folder, "name": Path(folder).name, "command": asked, "began": began})
    recorder.sweeps[folder] = began


def close_sweeps(status: str) -> None:
    """End the runs of this process's sweeps, with the joint report, if there is one; `status` is a report's."""
    for recorder in list(_recorders.values()):
        for folder, began in recorder.sweeps.items():
            recorder.ask({"do": "close", "folder": folder, "began": began, "status": status})
    stop()


def _how_to_look(uri: str) -> str:
    return f" (look: mlflow ui --backend-store-uri {uri})" if uri.startswith("sqlite:") else ""
