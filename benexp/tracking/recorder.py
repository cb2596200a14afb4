"""The process beside the one that works: it imports MLflow, watches the system, and sends runs when they are done.

It is asked in lines of JSON on stdin and answers each with one on stdout. When stdin ends, so does it.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benexp.core.errors import BenexpError
from benexp.records.names import JOBS, REPORT
from benexp.tracking.mlflow_client import Destination, UnreachableError, import_mlflow
from benexp.tracking.mlflow_run import JobFailure, mlflow_run_of_failure
from benexp.tracking.sent_records import SWEEP, find, mark, mark_parent, parent, read, samples
from benexp.tracking.system_metrics import SystemSampler

WAIT_FOR_PARENT = 10
"""Seconds that a job's failure, which leaves no record to find it by, waits for the run of its sweep."""


class Recorder:
    """Answers requests: `open` and `close` are of a sweep, `send` of what a task did."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._destination: Destination | None = None
        self._refused: str | None = None
        self._opened: dict[str, str] = {}
        import_mlflow()
        self._sampler = SystemSampler()
        threading.Thread(target=self._watch, name="system-metrics", daemon=True).start()
        # At work's beginning, since a new database takes some seconds; a failure is reported at its end.
        try:
            self._connect()
        except UnreachableError as error:
            # Not tried again then: it has been waited for long enough.
            self._refused = str(error)

    def _watch(self) -> None:
        while True:
            time.sleep(self._sampler.interval)
            self._sampler.sample()

    def _connect(self) -> Destination:
        if self._refused:
            raise UnreachableError(self._refused)
        if self._destination is None:
            self._destination = Destination(**self._settings)
        return self._destination

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        what = getattr(self, f"_{request['do']}")
        try:
            return dict(what(request))
        except UnreachableError as error:
            # Once: the jobs that follow do not wait for it again.
            self._refused = str(error)
            return {"failed": str(error)}

    def _open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        folder = Path(request["folder"])
        destination = self._connect()
        before = parent(folder, destination.uri)
        run_id = destination.open(request["name"], request["command"], request["began"], before)
        mark_parent(folder, destination.uri, run_id, request["command"])
        self._opened[request["folder"]] = run_id
        return {"page": destination.page(run_id)}

    def _send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        folder, began = Path(request["folder"]), request["began"]
        own = [record for record in find(folder, began) if record.command == request["command"]]
        self._sampler.sample()
        # What has some already was measured before, by a run that could not send it.
        for record in (one for one in own if not samples(one)):
            mark(record, samples=self._sampler.between(began, record.ended))
        destination = self._connect()
        sweep = Path(request["sweep"]) if request["sweep"] else None
        above = parent(sweep, destination.uri) if sweep else None
        runs = [destination.send(record, above) for record in own]
        if sweep and request["failure"] and not any(record.status == "failed" for record in own):
            failure = mlflow_run_of_failure(JobFailure(**request["failure"]))
            runs.append(destination.send_failure(failure, self._wait_for(sweep), time.time()))
        return {"page": destination.page(runs[-1]) if runs else None}

    def _wait_for(self, sweep: Path) -> str | None:
        end = time.monotonic() + WAIT_FOR_PARENT
        while not (found := parent(sweep, self._connect().uri)) and time.monotonic() < end:
            time.sleep(0.2)
        return found

    def _close(self, request: Mapping[str, Any]) -> dict[str, Any]:
        folder, began = Path(request["folder"]), request["began"]
        destination = self._connect()
        run_id = self._opened.pop(request["folder"], None)
        if run_id is None:
            raise UnreachableError("the run of the sweep could not be opened")
        report = read(folder / REPORT)
        if report and (report.kind != SWEEP or report.ended < began):
            report = None  # of an earlier one
        if report:
            destination.send(report, None, run_id)
        for job in find(folder / JOBS, began):
            destination.adopt(job, run_id, report)
        destination.close(run_id, request["status"], time.time())
        return {"page": destination.page(run_id)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    # The work goes first.
    os.nice(10)

    def send(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        recorder = Recorder(json.loads(sys.stdin.readline()))
    except BenexpError as error:
        send({"failed": str(error)})
        return
    send({"ready": True})
    for line in sys.stdin:
        send(recorder.answer(json.loads(line)))


if __name__ == "__main__":
    main()
