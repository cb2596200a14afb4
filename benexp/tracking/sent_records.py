"""The records that tasks leave below a folder, and beside each a marker that says where it was sent to."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from benexp.core.files import replacing

MARKER = "mlflow.json"
"""Lies beside records and says in which runs they were told."""
SWEEP = "sweep"
"""The marker's entry for the parent run of a sweep, which is opened before there is a record."""
JOBS = "jobs"
"""The folder of a sweep that its jobs write to."""
REPORT = "report.json"
KINDS = {"run.json": "classify", "comparison.json": "compare", "evaluation.json": "evaluate"}
PARITY = ".parity.json"
ARTIFACTS = "mlartifacts"
"""Where MLflow keeps copies beside a database file."""


@dataclass(frozen=True)
class Record:
    """What a task wrote last of what it did; `kind` is the task, or `sweep`."""

    path: Path
    kind: str
    content: Mapping[str, Any]
    digest: str
    """sha256 of the file; of a benchmark that is done, of what was measured, which it may have taken over."""
    ended: float
    """Unix time."""

    @property
    def sweep(self) -> Path | None:
        """The folder of the sweep that this is a job of."""
        return next((folder.parent for folder in self.path.parents if folder.name == JOBS), None)

    @property
    def command(self) -> str:
        return str(self.content.get("command") or self.content.get("made_by", {}).get("command") or "")


def find(folder: Path, since: float = 0) -> Iterator[Record]:
    """The records below a folder that were written `since` then, those of a folder before those beneath it.

    The tiles of a benchmark are told with it: they are no records of their own.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if _may_hold_records(name))
        for name in sorted(files):
            kind = KINDS.get(name) or ("export" if name.endswith(PARITY) else "report" if name == REPORT else None)
            if kind is None:
                continue
            path = here / name
            if path.stat().st_mtime < since and kind != "report":
                continue
            found = read(path)
            if found is None:
                continue
            if found.kind == "benchmark":
                tiles = {tile["tile"] for tile in found.content["tiles"]}
                folders[:] = [name for name in folders if name not in tiles]
            if found.ended >= since:
                yield found


def read(path: Path) -> Record | None:
    """The record in a file; None where it is another program's, or of a benchmark that goes on, or was killed."""
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
    except (FileNotFoundError, ValueError):
        return None
    kind = KINDS.get(path.name) or ("export" if path.name.endswith(PARITY) else None)
    if path.name == REPORT and isinstance(content, dict) and content.get("status") != "unfinished":
        kind = "benchmark" if "config_hash" in content else "sweep" if "configurations" in content else None
    if kind is None or not isinstance(content, dict):
        return None
    told = raw if kind != "benchmark" or content["status"] != "done" else _measured(content)
    return Record(path, kind, content, sha256(told).hexdigest(), path.stat().st_mtime)


def _measured(report: Mapping[str, Any]) -> bytes:
    """What a benchmark's report says of its tiles, be they measured in that run or taken over from an earlier one."""
    tiles = [{key: value for key, value in tile.items() if key != "reused"} for tile in report["tiles"]]
    return json.dumps([report["config_hash"], report.get("repeat"), tiles], sort_keys=True).encode()


def _may_hold_records(name: str) -> bool:
    return name != ARTIFACTS and not name.startswith(".") and not name.endswith(".SAFE")


@dataclass(frozen=True)
class Sent:
    """Where a record was sent to; `whole` is false where sending was cut off."""

    run_id: str
    whole: bool


def sent(record: Record, uri: str) -> Sent | None:
    """Whether a record, as it is now, was sent there."""
    entry = _marker(record.path.parent).get(record.path.name, {})
    run = entry.get("runs", {}).get(uri)
    return Sent(run["run_id"], run["whole"]) if run and entry["sha256"] == record.digest else None


def samples(record: Record) -> list[dict[str, Any]]:
    """What was sampled of the system while the record's work went on, kept for a record that could not be sent."""
    entry = _marker(record.path.parent).get(record.path.name, {})
    return list(entry.get("samples", ())) if entry.get("sha256") == record.digest else []


def mark(record: Record, runs: Mapping[str, Sent] | None = None, samples: list[dict[str, Any]] | None = None) -> None:
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
