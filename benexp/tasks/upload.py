"""Sends to MLflow what is not there yet: `benexp task=upload tracking=mlflow output_folder=...`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.records.names import JOBS, REPORT
from benexp.tracking.mlflow_client import Destination, UnreachableError
from benexp.tracking.sent_records import SWEEP, FoundRecord, find, mark_parent, parent, read, sent


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Send to MLflow every record below `output_folder` that is not there yet; what was sent.

    Raises BenexpError where there is no record, or MLflow does not take them; what was sent until then is noted.
    """
    tracking = config.tracking
    if tracking.name != "mlflow":
        raise BenexpError("task=upload sends records to MLflow: set tracking=mlflow")
    folder = Path(config.output_folder)
    found = list(find(folder))
    if not found:
        raise BenexpError(f"{folder}: there is no record of a finished run in it: name another output_folder")
    assert tracking.uri
    left = [record for record in found if not _is_there(record, tracking.uri)]
    say(f"records in {folder}: {len(found)}; to send to {tracking.uri}: {len(left)}")
    if config.dry_run or not left:
        return [{"record": str(record.path)} for record in left]
    done: list[dict[str, Any]] = []
    try:
        destination = Destination(tracking.uri, tracking.experiment, tracking.max_file_mb, tracking.max_run_mb)
        sweeps = _Sweeps(destination)
        for record in left:
            run_id = sweeps.send(record)
            say(f"{record.path}: {destination.page(run_id)}")
            done.append({"record": str(record.path), "run_id": run_id})
        sweeps.close()
    except UnreachableError as error:
        raise BenexpError(f"{error}: {len(done)} of {len(left)} records were sent; send the rest later") from error
    return done


def _is_there(record: FoundRecord, uri: str) -> bool:
    found = sent(record, uri)
    return bool(found and found.whole)


class _Sweeps:
    """Sends records, those of a sweep's jobs beneath a run of the sweep."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._runs: dict[Path, str] = {}
        """By the sweep's folder."""

    def send(self, record: FoundRecord) -> str:
        folder = record.path.parent if record.kind == SWEEP else record.sweep
        if folder is None:
            return self._destination.send(record, None)
        above = self._run(folder, record)
        if record.kind == SWEEP:
            return self._destination.send(record, None, above)
        return self._destination.send(record, above)

    def _run(self, folder: Path, first: FoundRecord) -> str:
        if folder not in self._runs:
            uri = self._destination.uri
            run_id = parent(folder, uri)
            if run_id is None:
                began = first.ended - first.seconds
                run_id = self._destination.open(folder.resolve().name, "", began)
                mark_parent(folder, uri, run_id, None)
            self._runs[folder] = run_id
        return self._runs[folder]

    def close(self) -> None:
        """End the sweeps' runs, with all their jobs beneath them, also those that were sent before."""
        for folder, run_id in self._runs.items():
            report = read(folder / REPORT)
            report = report if report and report.kind == SWEEP else None
            jobs = list(find(folder / JOBS))
            for job in jobs:
                self._destination.adopt(job, run_id, report)
            every = [report] if report else jobs
            failed = any(record.status != "done" for record in every)
            self._destination.close(run_id, "failed" if failed else "done", max(record.ended for record in every))
