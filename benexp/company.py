"""Whether jobs of a sweep run beside each other, and disturb each other's times."""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def side_by_side(launcher: Mapping[str, Any]) -> bool:
    """Whether Hydra's launcher of this configuration starts several jobs at once."""
    return not str(launcher["_target_"]).endswith(".BasicLauncher") and launcher.get("n_jobs") != 1


def in_company() -> bool:
    """Whether this process does a job that others may run beside."""
    if not HydraConfig.initialized():  # called from Python
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and side_by_side(hydra.launcher)
