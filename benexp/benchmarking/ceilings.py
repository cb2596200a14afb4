"""The ceiling of a configuration: the same without a model, which the jobs of a sweep measure once in each repeat."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benexp.benchmarking.configuration_run import ConfigurationRun
from benexp.config.hashing import asked_hash
from benexp.core.errors import BenexpError
from benexp.core.files import locked
from benexp.records.job import Measurements
from benexp.records.names import JOBS
from benexp.records.storage import read_record, write_record
from benexp.runs.backend_choice import choose_backend
from benexp.runs.plan import RunPlan

log = logging.getLogger("benexp")

NULL = "benexp.backends.null.NullBackend"
FOLDER = "ceilings"
"""Beneath a sweep's output_folder: a file for each configuration without a model, and each repeat of it."""
BEATEN = "measured faster than the ceiling, the same without a model: the machine was disturbed"


def is_null(plan: RunPlan) -> bool:
    return bool(plan.backend.settings["_target_"] == NULL)


def without_model(plan: RunPlan, output_folder: Path) -> RunPlan:
    """The same for all backends, batch sizes and threads, which are a model's own: it measures disks, decoding and
    writing. But for the repeat: machines are not equally undisturbed all the time.
    """
    backend = choose_backend({"_target_": NULL, "batch_size": 32})
    asked = plan.asked | {"output_folder": str(output_folder), "backend": dict(backend.settings)}
    return dataclasses.replace(
        plan,
        asked=asked,
        config_hash=asked_hash(asked),
        output_folder=output_folder,
        backend=backend,
        range_patches=None,
    )


def sweep_of(folder: Path) -> Path | None:
    """The folder of the sweep that the job which writes to `folder` is of; None of a benchmark by itself."""
    return folder.parents[2] if len(folder.parts) > 3 and folder.parents[1].name == JOBS else None


@contextmanager
def shared(run: ConfigurationRun, folder: Path) -> Iterator[None]:
    """Hold the ceiling of the sweep that the job in `folder` is of: what it has is taken over, what is new is kept.

    Jobs beside this one wait meanwhile. Where there is no sweep there is nothing to share.
    """
    sweep = sweep_of(folder)
    if sweep is None:
        yield
        return
    (sweep / FOLDER).mkdir(exist_ok=True)
    file = sweep / FOLDER / f"{run.plan.config_hash[:12]}-{run.repeat}.json"
    with locked(file.with_suffix(".lock")):
        if file.exists():
            try:
                run.reuse(read_record(file, Measurements), None)
            except BenexpError as error:
                log.warning("%s; the ceiling is measured anew", error)
        yield
        write_record(file, run.measurements())
