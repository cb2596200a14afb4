"""The records that tasks leave below a folder, and beside each a marker that holds where it was sent to."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.records.comparison import ComparisonRecord
from benexp.records.evaluation import MapEvaluation, PatchEvaluation, decode_evaluation
from benexp.records.job import JobReport
from benexp.records.names import COMPARISON, EVALUATION, JOBS, PARITY, REPORT, RUN
from benexp.records.report_files import read_report
from benexp.records.run import RunRecord
from benexp.records.storage import decode_record, to_json
from benexp.records.sweep import SweepReport

log = logging.getLogger("benexp")

MARKER = "mlflow.json"
"""Lies beside records and names the runs that they were sent to."""
SWEEP = "sweep"
"""The marker's entry for the parent run of a sweep, which is opened before there is a record."""
KINDS = {RUN: "classify", COMPARISON: "compare", EVALUATION: "evaluate", REPORT: "report"}
ARTIFACTS = "mlartifacts"
"""The folder of MLflow's copies beside a database file."""

TaskRecord = RunRecord | ComparisonRecord | MapEvaluation | PatchEvaluation
Parity = Mapping[str, Any]
"""The record of an export, which the exporter writes as plain JSON."""
Content = JobReport | SweepReport | TaskRecord | Parity


@dataclass(frozen=True)
class FoundRecord:
    """A record that a task wrote last; `kind` is the task, or `sweep`."""

    path: Path
    kind: str
    content: Content
    digest: str
    """sha256 of the file; of a benchmark that is done, of its measurements, which it may have taken over."""
    ended: float
    """Unix time."""

    @property
    def sweep(self) -> Path | None:
        """The folder of the sweep that this is a job of."""
        return next((folder.parent for folder in self.path.parents if folder.name == JOBS), None)

    @property
    def command(self) -> str:
        if isinstance(self.content, SweepReport):
            return ""
        if isinstance(self.content, Mapping):
            return str(self.content.get("made_by", {}).get("command") or "")
        return self.content.command

    @property
    def status(self) -> str:
        return self.content.status if isinstance(self.content, JobReport | SweepReport) else "done"

    @property
    def seconds(self) -> float:
        """0 where it is unknown."""
        if isinstance(self.content, JobReport):
            return self.content.totals.seconds if self.content.totals else 0.0
        return self.content.seconds if isinstance(self.content, TaskRecord) else 0.0


def find(folder: Path, since: float = 0) -> Iterator[FoundRecord]:
    """The records below a folder that were written `since` then, those of a folder before those beneath it.

    The tiles of a benchmark are sent with it: they are no records of their own. Below a report of an unknown version,
    which is logged, nothing is looked for: which of the records are its tiles is unknown.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if _may_hold_records(name))
        for name in sorted(files):
            if _kind(name) is None or ((here / name).stat().st_mtime < since and name != REPORT):
                continue
            try:
                found = _read(here / name)
            except BenexpError as error:
                log.warning("%s", error)
                if name == REPORT:
                    folders.clear()
                continue
            if found is None:
                continue
            if isinstance(found.content, JobReport):
                tiles = {tile.tile for tile in (found.content.kept or found.content).tiles}
                folders[:] = [name for name in folders if name not in tiles]
            if found.status != "unfinished" and found.ended >= since:
                yield found


def read(path: Path) -> FoundRecord | None:
    """The record in a file; None where it is another program's, or of a benchmark that goes on, or was killed.

    One of an unknown version is logged, and none.
    """
    try:
        found = _read(path)
    except BenexpError as error:
        log.warning("%s", error)
        return None
    return found if found and found.status != "unfinished" else None


def _kind(name: str) -> str | None:
    return KINDS.get(name) or ("export" if name.endswith(PARITY) else None)


def _read(path: Path) -> FoundRecord | None:
    """The record in a file, finished or not; None where it is another program's.

    Raises BenexpError where it is of an unknown version, or no record.
    """
    kind = _kind(path.name)
    if kind is None:
        return None
    if path.name == REPORT:
        return _read_report(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    content = _decode(path, raw)
    return FoundRecord(path, kind, content, sha256(raw).hexdigest(), path.stat().st_mtime) if content else None


def _decode(path: Path, raw: bytes) -> TaskRecord | Parity | None:
    if path.name == RUN:
        return decode_record(raw, RunRecord, str(path))
    if path.name == COMPARISON:
        return decode_record(raw, ComparisonRecord, str(path))
    if path.name == EVALUATION:
        return decode_evaluation(raw, str(path))
    try:
        parity = json.loads(raw)
    except ValueError:
        return None
    return parity if isinstance(parity, dict) else None


def _read_report(path: Path) -> FoundRecord | None:
    report = read_report(path)
    if report is None:
        return None
    if isinstance(report, JobReport):
        kind, content = "benchmark", _measured(report) if report.status == "done" else path.read_bytes()
    else:
        kind, content = SWEEP, path.read_bytes()
    return FoundRecord(path, kind, report, sha256(content).hexdigest(), path.stat().st_mtime)


def _measured(report: JobReport) -> bytes:
    """A benchmark's report on its tiles, be they measured in that run or taken over from an earlier one."""
    tiles = [msgspec.structs.replace(tile, reused=False) for tile in report.tiles]
    return to_json([report.config_hash, report.repeat, tiles])


def _may_hold_records(name: str) -> bool:
    return name != ARTIFACTS and not name.startswith(".") and not name.endswith(".SAFE")


@dataclass(frozen=True)
class Sent:
    """The run that a record was sent to; `whole` is false where sending was cut off."""

    run_id: str
    whole: bool


def sent(record: FoundRecord, uri: str) -> Sent | None:
    """The entry of a record, as it is now, for that server; None where it was not sent there."""
    entry = _marker(record.path.parent).get(record.path.name, {})
    run = entry.get("runs", {}).get(uri)
    return Sent(run["run_id"], run["whole"]) if run and entry["sha256"] == record.digest else None


def samples(record: FoundRecord) -> list[dict[str, Any]]:
    """Samples of the system from the time of the record's work, kept for a record that could not be sent."""
    entry = _marker(record.path.parent).get(record.path.name, {})
    return list(entry.get("samples", ())) if entry.get("sha256") == record.digest else []


def mark(
    record: FoundRecord, runs: Mapping[str, Sent] | None = None, samples: list[dict[str, Any]] | None = None
) -> None:
    """Note beside a record where it was sent to by now, or the samples to send with it."""
    marker = _marker(record.path.parent)
    entry = marker.get(record.path.name, {})
    if entry.get("sha256") != record.digest:
        entry = {"sha256": record.digest, "runs": {}}
    for uri, run in (runs or {}).items():
        entry["runs"][uri] = {"run_id": run.run_id, "whole": run.whole}
        if run.whole:
            entry.pop("samples", None)
    if samples is not None:
        entry["samples"] = samples
    _write(record.path.parent, marker | {record.path.name: entry})


def parent(folder: Path, uri: str) -> str | None:
    """The run that stands there for the sweep in this folder."""
    run = _marker(folder).get(SWEEP, {}).get("runs", {}).get(uri)
    return str(run["run_id"]) if run else None


def mark_parent(folder: Path, uri: str, run_id: str, command: str | None) -> None:
    """Note the run of the sweep that this command began, where it is known."""
    marker = _marker(folder)
    before = marker.get(SWEEP, {})
    runs = before.get("runs", {}) | {uri: {"run_id": run_id}}
    _write(folder, marker | {SWEEP: {"runs": runs, "command": command or before.get("command")}})


def forget_parent(folder: Path, unless: str | None) -> None:
    """Drop the run of an earlier sweep, `unless` this command began it, and goes on with it."""
    marker = _marker(folder)
    if SWEEP in marker and (unless is None or marker[SWEEP].get("command") != unless):
        _write(folder, {name: entry for name, entry in marker.items() if name != SWEEP})


def _marker(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, marker: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / MARKER) as temporary:
        temporary.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
