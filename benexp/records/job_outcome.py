"""The outcomes of a sweep's jobs: a file per job, because launchers run jobs in processes that may die."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benexp.records.storage import SCHEMA_VERSION, read_record, write_record


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """One job of a sweep and how it ended. A run by itself has one, too, which is not written."""

    schema_version: int = SCHEMA_VERSION
    job: int
    """The number of the job, from 0."""
    task: str
    overrides: list[str]
    status: Literal["unfinished", "done", "failed"] = "unfinished"
    """unfinished while the job runs, and for ever where its process was killed."""
    report: str | None = None
    """The path of the report that a benchmark writes."""
    replaces: list[int] | None = None
    """The identity of the file at `report` when the job began; null where there was none."""
    objective: float | None = None
    """Patches per second of a benchmark."""
    error: str | None = None
    logged: bool = False
    """True where the error was logged by the process of the command, false in a launcher's process."""


def write_outcome(folder: Path, outcome: JobOutcome) -> None:
    """Write the outcome to its file in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / f"{outcome.job}.json", outcome)


def read_outcomes(folder: Path) -> list[JobOutcome]:
    """The outcomes of the jobs that began, in the order of the jobs."""
    files = [file for file in folder.glob("*.json") if file.stem.isdecimal()]  # not those half-written by killed jobs
    return [read_record(file, JobOutcome) for file in sorted(files, key=lambda file: int(file.stem))]
