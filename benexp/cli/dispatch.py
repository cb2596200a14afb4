"""From a composed configuration to the task that it names."""

import contextlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.config.groups import groups
from benexp.core.errors import BenexpError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(
    composed: "DictConfig", overrides: Sequence[str], say: Callable[[str], object], in_sweep: bool = False
) -> list[dict[str, Any]]:
    """Check a composed configuration and run its task; the records of what was done.

    `overrides` are what the user asked for, in Hydra's grammar: records show them. `say` is told what was done.
    """
    with _failure_reported(composed, overrides, in_sweep):
        return _run(composed, overrides, say, in_sweep)


def _failure_reported(
    composed: "DictConfig", overrides: Sequence[str], in_sweep: bool
) -> "contextlib.AbstractContextManager[None]":
    if not in_sweep or composed.task.name != "benchmark" or composed.dry_run:
        return contextlib.nullcontext()
    from benexp.benchmarking.failed_job import failure_reported

    return failure_reported(composed, overrides)


def _run(
    composed: "DictConfig", overrides: Sequence[str], say: Callable[[str], object], in_sweep: bool
) -> list[dict[str, Any]]:
    from benexp.config.hashing import config_hash
    from benexp.config.validation import check
    from benexp.tracking.recorder_client import tracked

    config = check(composed)
    config.output_folder = str(Path(config.output_folder).expanduser())
    if in_sweep:
        # Each job of a sweep has a folder of its own, or they would overwrite one another.
        config.output_folder = str(Path(config.output_folder) / "jobs" / config_hash(config)[:12])
        if config.task.name == "benchmark":
            config.output_folder = str(Path(config.output_folder) / str(config.benchmark.repeat))
    if config.task.name not in groups()["task"]:
        raise BenexpError(f"task.name={config.task.name}: takes {', '.join(groups()['task'])}")
    sweep = Path(composed.output_folder) if in_sweep else None
    # Reported here already, and not only where a wrong configuration is, for MLflow to be told of it.
    with tracked(config, overrides, sweep), _failure_reported(composed, overrides, in_sweep):
        records: list[dict[str, Any]] = importlib.import_module(f"benexp.tasks.{config.task.name}").run(
            config, overrides, say
        )
    return records
