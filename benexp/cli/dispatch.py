"""The run of the task that a composed configuration names."""

import contextlib
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.cli.interrupts import GOES_ON, raise_interrupts
from benexp.config.groups import groups
from benexp.config.schema import RENAMED
from benexp.core.errors import BenexpError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(
    composed: "DictConfig", overrides: Sequence[str], show: Callable[[str], object], in_sweep: bool = False
) -> Sequence[Any]:
    """Check a composed configuration and run its task; the records of the runs.

    `overrides` are the user's, in Hydra's grammar, for the records. `show` takes the text for the user.
    """
    with _failure_reported(composed, overrides, in_sweep):
        return _run(composed, overrides, show, in_sweep)


def check_job(composed: "DictConfig") -> None:
    """Raise BenexpError where a value of the configuration is refused, whatever the products and the model are."""
    from benexp.config.validation import check
    from benexp.runs.backend_choice import choose_backend
    from benexp.runs.plan import requested_layers

    config = check(composed)
    _check_task(config.task.name)
    if config.task.name in ("classify", "benchmark"):
        choose_backend(config.backend)
        requested_layers(config)


def _check_task(name: str) -> None:
    if name not in groups()["task"]:
        if present := RENAMED.get(f"task={name}"):
            raise BenexpError(f"task.name={name} is now {present}")
        raise BenexpError(f"task.name={name}: takes {', '.join(groups()['task'])}")


def _failure_reported(
    composed: "DictConfig", overrides: Sequence[str], in_sweep: bool
) -> "contextlib.AbstractContextManager[None]":
    if not in_sweep or composed.task.name != "benchmark" or composed.dry_run:
        return contextlib.nullcontext()
    from benexp.benchmarking.failed_job import failure_reported

    return failure_reported(composed, overrides)


def _run(
    composed: "DictConfig", overrides: Sequence[str], show: Callable[[str], object], in_sweep: bool
) -> Sequence[Any]:
    from benexp.config.hashing import config_hash
    from benexp.config.validation import check
    from benexp.mapping.resume import is_work_kept
    from benexp.tracking.recorder_client import tracked

    config = check(composed)
    folder = Path(config.output_folder).expanduser()
    if in_sweep:
        # Each job of a sweep has a folder of its own, or jobs would overwrite one another's results.
        repeat = str(config.benchmark.repeat) if config.task.name == "benchmark" else ""
        folder = folder / "jobs" / config_hash(config)[:12] / repeat
    config.output_folder = str(folder)
    _check_task(config.task.name)
    sweep = Path(composed.output_folder) if in_sweep else None
    task = importlib.import_module(f"benexp.tasks.{config.task.name}")
    raise_interrupts()
    # The failure is reported inside `tracked`, too, so that the report is there when the record goes to MLflow.
    began = time.time()
    try:
        with tracked(config, overrides, sweep), _failure_reported(composed, overrides, in_sweep):
            records: Sequence[Any] = task.run(config, overrides, show)
    except KeyboardInterrupt as interrupt:
        if not in_sweep and config.resume and is_work_kept(folder, began):
            interrupt.add_note(GOES_ON)
        raise
    return records
