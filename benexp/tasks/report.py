"""Sends to MLflow what is not there yet: `benexp task=report tracking=mlflow output_folder=...`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benexp.config import Config
from benexp.errors import BenexpError
from benexp.tracking.records import SWEEP, Record, find, mark_parent, parent, sent
from benexp.tracking.sending import Destination, UnreachableError


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Tell MLflow of every record below `output_folder` that it was not told of; what was sent.

    Raises BenexpError where there is no record, or MLflow does not take them; what was sent until then is noted.
    """
    tracking = config.tracking
    if tracking.name != "mlflow":
        raise BenexpError("task=report sends records to MLflow: set tracking=mlflow")
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


def _is_there(record: Record, uri: str) -> bool:
    found = sent(record, uri)
    return bool(found and found.whole)


class _Sweeps:
    """Sends records, those of a sweep's jobs beneath a run of the sweep."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._jobs: dict[Path, list[Record]] = {}

    def send(self, record: Record) -> str:
        folder = record.path.parent if record.kind == SWEEP else record.sweep
        if folder is None:
            return self._destination.send(record, None)
        above = self._parent(folder, record)
        if record.kind == SWEEP:
            return self._destination.send(record, None, above)
        self._jobs.setdefault(folder, []).append(record)
        return self._destination.send(record, above)

    def _parent(self, folder: Path, first: Record) -> str:
        uri = self._destination.uri
        if found := parent(folder, uri):
            return found
        opened = self._destination.open(folder.resolve().name, "", first.ended - float(first.content.get("seconds", 0)))
        mark_parent(folder, uri, opened)
        # Those that were sent while there was none.
        for job in find(folder / "jobs"):
            if there := sent(job, uri):
                self._destination.adopt(there.run_id, opened)
        return opened

    def close(self) -> None:
        for folder, jobs in self._jobs.items():
            above = self._parent(folder, jobs[0])
            failed = any(job.content.get("status", "done") != "done" for job in jobs)
            self._destination.close(above, "failed" if failed else "done", max(job.ended for job in jobs))
