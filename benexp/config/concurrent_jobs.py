"""What a job of a sweep is measured in the company of: the sweep's other jobs, and whether they run beside it."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

this_sweep: ContextVar[str | None] = ContextVar("this_sweep", default=None)
"""Tells the sweep that the job under way is of from others; None of a run by itself."""


def side_by_side(launcher: Mapping[str, Any]) -> bool:
    """Whether Hydra's launcher of this configuration starts several jobs at once."""
    return not str(launcher["_target_"]).endswith(".BasicLauncher") and launcher.get("n_jobs") != 1


def in_company() -> bool:
    """Whether this process does a job that others may run beside."""
    if not HydraConfig.initialized():  # called from Python
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and side_by_side(hydra.launcher)
