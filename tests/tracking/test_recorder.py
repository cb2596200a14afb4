"""The process that sends runs to MLflow, with a server that gives it no answer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from benexp.tracking import recorder
from benexp.tracking.mlflow_client import UnreachableError
from benexp.tracking.recorder import Recorder
from benexp.tracking.sent_records import find, forget_parent, samples
from tests.tracking.builders import COMMAND, run_record


def test_a_server_that_refused_at_the_beginning_is_not_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def destination(**settings: str) -> NoReturn:
        tried.append(settings["uri"])
        raise UnreachableError("does not answer")

    sampler = SimpleNamespace(interval=3600, sample=lambda: None, between=lambda *_: [{"time": 1, "metrics": {}}])
    monkeypatch.setattr(recorder, "Destination", destination)
    monkeypatch.setattr(recorder, "SystemSampler", lambda: sampler)
    monkeypatch.setattr(recorder, "import_mlflow", lambda: None)
    run_record(tmp_path)
    asked = {"do": "send", "folder": str(tmp_path), "began": 0, "command": COMMAND, "sweep": None, "failure": None}
    sending = Recorder({"uri": "http://somewhere"})
    for _ in range(2):
        assert sending.answer(asked) == {"failed": "does not answer"}
    assert tried == ["http://somewhere"]
    # All the same its samples are kept, to be sent later.
    (record,) = find(tmp_path)
    assert len(samples(record)) == 1


def test_a_sweep_that_was_killed_goes_on_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Destination(SimpleNamespace):
        def open(self, *given: Any) -> str:
            opened.append(given)
            return str(given[-1] or f"run{len(opened)}")

    sampler = SimpleNamespace(interval=3600, sample=lambda: None)
    monkeypatch.setattr(recorder, "Destination", lambda uri: Destination(uri=uri, page=lambda run_id: run_id))
    monkeypatch.setattr(recorder, "SystemSampler", lambda: sampler)
    monkeypatch.setattr(recorder, "import_mlflow", lambda: None)

    def begin(command: str) -> str:
        """As a process does that is killed then; the page is the run."""
        asked = {"do": "open", "folder": str(tmp_path), "name": "out", "command": command, "began": 1}
        return str(Recorder({"uri": "http://somewhere"}).answer(asked)["page"])

    assert [begin("benexp -m seed=1,2"), begin("benexp -m seed=1,2")] == ["run1", "run1"]
    forget_parent(tmp_path, unless="benexp -m seed=3")
    assert begin("benexp -m seed=3") == "run3"
