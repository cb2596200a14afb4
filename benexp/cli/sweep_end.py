"""The end of a sweep: the interrupt of its jobs, their count and errors, the sweep's report, the best trial."""

import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
from omegaconf import OmegaConf

from benexp.benchmarking.child_process import PATIENCE
from benexp.cli.interrupts import GOES_ON
from benexp.cli.sweep_start import StartedSweep
from benexp.core.console import print_text
from benexp.records.job_outcome import JobOutcome, read_outcomes

log = logging.getLogger("benexp")

BEST_TRIAL = "optimization_results.yaml"
"""The file in which the Optuna sweeper writes its result."""


def report_sweep(sweep: StartedSweep, name: str, began: float, interrupted: bool) -> bool:
    """Print how the jobs of a sweep ended, and write the sweep's report of benchmarks; True where all went well.

    `name` is the sweep's among those into the same folder, `began` the time (seconds since 1970) of its start.
    """
    outcomes = read_outcomes(sweep.hydra_folder / name)
    _report_outcomes(outcomes, sweep.overrides.jobs, interrupted)
    agree = True
    if any(outcome.task == "benchmark" for outcome in outcomes):
        from benexp.benchmarking.sweep_report import join, written

        agree = join(sweep.output_folder, written(sweep.output_folder, outcomes), print_text)
    _report_best_trial(sweep.hydra_folder / BEST_TRIAL, began)
    return agree and all(outcome.status == "done" for outcome in outcomes)


def interrupt_launched_jobs() -> None:
    """Interrupt the jobs that a launcher has left running on this machine, and wait for them to clean up.

    joblib stops its own jobs; submitit's go on, unless Ctrl-C reaches them, too.
    """
    controllers = [child for child in psutil.Process().children() if "submitit.local._local" in _command(child)]
    _, left = psutil.wait_procs(controllers, 3)
    for controller in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            controller.send_signal(signal.SIGINT)
    psutil.wait_procs(left, PATIENCE)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _report_outcomes(outcomes: Sequence[JobOutcome], asked: int | None, interrupted: bool) -> None:
    """Count the jobs, of which `asked` were to run, and log the errors that the command has not logged yet."""
    for outcome in outcomes:
        if outcome.status == "failed" and not outcome.logged:
            log.error("job %d: %s", outcome.job + 1, outcome.error)
        if outcome.status == "unfinished" and not interrupted:
            log.error("job %d: its process ended before its work did: was memory short?", outcome.job + 1)
    if outcomes:
        counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
        hint = ""
        if interrupted:
            counts["interrupted"] = counts.pop("unfinished", 0)
            counts["not begun"] = (asked or 0) - len(outcomes)
            hint = f"; {GOES_ON}"
        parts = (f"{count} {status}" for status, count in sorted(counts.items()) if count > 0)
        print_text(f"jobs: {', '.join(parts)}{hint}")


def _report_best_trial(file: Path, began: float) -> None:
    if file.exists() and file.stat().st_mtime >= began:
        best = OmegaConf.load(file)
        if "best_value" in best:
            parameters = " ".join(f"{key}={value}" for key, value in best.best_params.items())
            print_text(f"best of the trials: {best.best_value:.1f} patches/s with {parameters}")
