"""A job of a sweep that fails before it measures anything leaves a report behind all the same, which says why."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.config.command import command
from benexp.config.hashing import NOT_IN_HASH, config_hash, digest
from benexp.config.validation import check
from benexp.core.errors import BenexpError, one_line
from benexp.core.files import identity, staging
from benexp.records.job import JobReport
from benexp.records.names import JOBS, REPORT
from benexp.records.report_files import earlier_report, write_report
from benexp.records.tile import FailedTile

if TYPE_CHECKING:
    from omegaconf import DictConfig


def job_folder(output_folder: str, hash_: str, repeat: int) -> Path:
    """The folder that a job of a sweep of benchmarks writes to."""
    return Path(output_folder).expanduser() / JOBS / hash_[:12] / str(repeat)


def report_of(composed: "DictConfig") -> dict[str, Any]:
    """The place where a job of a sweep of benchmarks will write its report, and the identity of the file there now."""
    config, hash_, repeat = _asked(composed)
    file = job_folder(str(config["output_folder"]), hash_, repeat) / REPORT
    return {"report": str(file), "replaces": identity(file)}


@contextlib.contextmanager
def failure_reported(composed: "DictConfig", overrides: Sequence[str]) -> Iterator[None]:
    """Write the report of a benchmark that raises in the block without having written one, and raise all the same.

    What an earlier run has measured in its place is kept in it, for a later one to reuse.
    """
    config, hash_, repeat = _asked(composed)
    folder = job_folder(str(config["output_folder"]), hash_, repeat)
    before = identity(folder / REPORT)
    try:
        yield
    except Exception as error:
        if identity(folder / REPORT) == before:
            reason = str(error) if isinstance(error, BenexpError) else f"unexpected {one_line(error)}"
            # Where it cannot be written, or another run is at work there, the error itself is raised all the same.
            with contextlib.suppress(OSError, BenexpError):
                _write(folder, config, hash_, repeat, overrides, reason)
        raise


def _asked(composed: "DictConfig") -> tuple[dict[str, Any], str, int]:
    """The configuration, what stands for it, and the repeat; of a wrong one, too, whose folder is no other's."""
    try:
        config = check(composed)
    except BenexpError:
        from omegaconf import OmegaConf

        raw = OmegaConf.to_container(composed)
        assert isinstance(raw, dict)
        asked = {str(key): value for key, value in raw.items()}
        repeat = OmegaConf.select(composed, "benchmark.repeat")
        # How it is to be measured counts here, as that may be what is wrong.
        measuring = {key: value for key, value in (asked["benchmark"] or {}).items() if key != "repeat"}
        hash_ = digest({key: value for key, value in asked.items() if key not in NOT_IN_HASH} | {"wrong": measuring})
        return asked, hash_, repeat if isinstance(repeat, int) else 0
    return asdict(config), config_hash(config), config.benchmark.repeat


def _write(
    folder: Path, config: Mapping[str, Any], hash_: str, repeat: int, overrides: Sequence[str], reason: str
) -> None:
    from benexp.measure.environment import environment
    from benexp.runs.backend_choice import backend_name

    backend = config["backend"]
    # It stands for all the tiles that there might have been.
    tile = FailedTile(
        tile="",
        product="",
        error=reason,
        model=str(config["model"]["name"]),
        backend_name=backend_name(backend),
        repeat=repeat,
        asked={key: value for key, value in backend.items() if key != "_target_"},
        chunking=config["chunking"],
        config_hash=hash_,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with staging(folder):
        report = JobReport(
            status="failed",
            error=reason,
            command=command(overrides),
            config=dict(config),
            config_hash=hash_,
            repeat=repeat,
            environment=environment(),
            startups=[],
            totals=None,
            tiles=[tile],
            kept=earlier_report(folder),
        )
        write_report(folder, report)
