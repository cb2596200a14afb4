"""The current sweep, and whether its jobs run concurrently."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

current_sweep: ContextVar[str | None] = ContextVar("current_sweep", default=None)
"""The name of the sweep that the current job belongs to; None in a run by itself."""


def starts_concurrently(launcher: Mapping[str, Any]) -> bool:
    """True where Hydra's launcher, by its configuration, starts several jobs at once."""
    return not str(launcher["_target_"]).endswith(".BasicLauncher") and launcher.get("n_jobs") != 1


def runs_concurrently() -> bool:
    """True where this process runs a job and other jobs may run at the same time."""
    if not HydraConfig.initialized():  # called from Python
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and starts_concurrently(hydra.launcher)
