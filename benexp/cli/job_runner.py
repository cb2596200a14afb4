"""The callable that Hydra runs with the composed configuration of a run, or of each job of a sweep."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from benexp.cli.dispatch import run
from benexp.cli.interrupts import is_interrupt
from benexp.cli.sweep_overrides import SweepOverrides, given_overrides
from benexp.cli.sweep_start import StartedSweep, started_sweeps
from benexp.cli.wording import FULL_ERROR, error_message
from benexp.config.concurrent_jobs import current_sweep
from benexp.core.console import print_text, set_up_logging
from benexp.core.errors import BenexpError
from benexp.records.job_outcome import JobOutcome, write_outcome
from benexp.records.tile import DoneTile

log = logging.getLogger("benexp")


@dataclass(frozen=True)
class JobRunner:
    """Runs a composed configuration and keeps its outcome, in `single_outcomes` or, for a job of a sweep, in a file.

    Launchers copy it to processes of their own. Exceptions become outcomes, because Hydra would skip the other jobs.
    """

    debug: bool
    """Raise exceptions that are not for users all the same."""
    sweep: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    """The name of the sweep, which no other sweep into the same folder has."""
    process: int = field(default_factory=os.getpid)
    single_outcomes: list[JobOutcome] = field(default_factory=list)
    sweeps: list[StartedSweep] = field(default_factory=lambda: started_sweeps)

    def __call__(self, composed: DictConfig) -> float | None:
        """Run the configuration; the objective, which a sweeper may maximise."""
        hydra = HydraConfig.get()
        in_sweep = hydra.mode == RunMode.MULTIRUN
        current_sweep.set(self.sweep if in_sweep else None)
        in_command = os.getpid() == self.process
        if not in_command:
            set_up_logging()
        outcome = JobOutcome(
            job=hydra.job.num if in_sweep else 0, task=composed.task.name, overrides=given_overrides(hydra)
        )
        folder = Path(hydra.sweep.dir) / self.sweep
        if in_sweep:
            write_outcome(folder, outcome)
            print_text(self._heading(outcome))
        try:
            if in_sweep and outcome.task == "benchmark":
                from benexp.benchmarking.failed_job import report_of

                outcome = replace(outcome, **report_of(composed))
                write_outcome(folder, outcome)
            with self._environment():
                records = run(composed, outcome.overrides, print_text, in_sweep=in_sweep)
            outcome = replace(outcome, status="done", objective=_objective(records))
        except Exception as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            if self.debug and not isinstance(error, BenexpError):
                raise
            outcome = replace(outcome, status="failed", error=error_message(error), logged=in_command)
            if in_command:
                log.error("%s", outcome.error)
        if in_sweep:
            write_outcome(folder, outcome)
        else:
            self.single_outcomes.append(outcome)
        return outcome.objective

    def _heading(self, outcome: JobOutcome) -> str:
        """Such as `job 3 of 16: backend=torch benchmark.repeat=1`."""
        asked = self.sweeps[-1].overrides if self.sweeps else SweepOverrides()
        count = f" of {asked.jobs}" if asked.jobs else ""
        swept = asked.swept_among(outcome.overrides)
        return f"job {outcome.job + 1}{count}{f': {swept}' if swept else ''}"

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """The user's environment, without the variable that benexp set for Hydra."""
        before = os.environ.get(FULL_ERROR)
        if not self.debug:
            os.environ.pop(FULL_ERROR, None)
        try:
            yield
        finally:
            if before is not None:
                os.environ[FULL_ERROR] = before


def _objective(records: Sequence[Any]) -> float | None:
    """Patches per second over all products of a benchmark, which `hydra/sweeper=optuna` maximises."""
    tiles = [record for record in records if isinstance(record, DoneTile)]
    if not tiles or len(tiles) < len(records):  # as with dry_run
        return None
    return sum(tile.patches for tile in tiles) / sum(tile.seconds for tile in tiles)
