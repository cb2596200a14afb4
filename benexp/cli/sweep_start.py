"""The Hydra callback that checks and notes a sweep before its jobs begin."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from benexp.benchmarking.ceilings import FOLDER as CEILINGS
from benexp.cli.dispatch import check_job
from benexp.cli.interrupts import raise_interrupts
from benexp.cli.sweep_overrides import SweepOverrides, grid_jobs, put_repeats_outermost, sweep_overrides
from benexp.config.concurrent_jobs import starts_concurrently
from benexp.core.errors import BenexpError

log = logging.getLogger("benexp")


@dataclass(frozen=True)
class StartedSweep:
    """A sweep that Hydra has started: the folders of its results and of Hydra's own files, and the overrides swept."""

    output_folder: Path
    hydra_folder: Path
    overrides: SweepOverrides


started_sweeps: list[StartedSweep] = []
"""The sweeps of this command. A list of the module, because Hydra drops what its callbacks return."""


class SweepRefusedError(BaseException):
    """Ends a sweep before its first job. Not an Exception, because Hydra turns those of callbacks into warnings."""


class SweepStart(Callback):
    """Refuses sweeps whose jobs would overwrite each other, and prepares for the others."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        overrides = sweep_overrides(config.hydra)
        if refusal := overrides.refusal(config.task.name):
            raise SweepRefusedError(refusal)
        put_repeats_outermost(config.hydra)
        _check_grid(config, overrides)
        raise_interrupts()
        started_sweeps.append(StartedSweep(Path(config.output_folder), Path(config.hydra.sweep.dir), overrides))
        if config.task.name == "benchmark" and not config.resume and not config.dry_run:
            shutil.rmtree(Path(config.output_folder) / CEILINGS, ignore_errors=True)
        if "optuna" in config.hydra.sweeper["_target_"]:
            import optuna

            optuna.logging.set_verbosity(logging.ERROR)
            # Hydra's plugin logs that a trial failed, which the job has logged already, with the reason.
            logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)
        if config.task.name == "benchmark" and starts_concurrently(config.hydra.launcher):
            log.warning(
                "%s runs jobs side by side, which disturb each other's times, and each counts on all the memory that "
                "is free: for times that can be compared, leave out hydra/launcher",
                OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher"),
            )


def _check_grid(config: DictConfig, swept: SweepOverrides) -> None:
    """Raise SweepRefusedError where a job of a grid would be refused for a value of its configuration."""
    for number, (overrides, composed) in enumerate(grid_jobs(config), 1):
        try:
            check_job(composed)
        except BenexpError as error:
            place = f"job {number} of {swept.jobs}: {swept.swept_among(overrides)}"
            raise SweepRefusedError(f"{error} ({place}; no job was begun)") from error
