"""What becomes of Hydra's jobs: one alone, or those of a sweep, which may run in other processes."""

import contextlib
import json
import logging
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from benexp.benchmarking.ceilings import FOLDER as CEILINGS
from benexp.benchmarking.child_process import PATIENCE
from benexp.cli.dispatch import run
from benexp.cli.sweep_overrides import Swept, as_given, put_repeats_outermost, swept
from benexp.cli.wording import explain
from benexp.config.concurrent_jobs import side_by_side, this_sweep
from benexp.core.console import say, set_up_logging
from benexp.core.errors import BenexpError
from benexp.core.files import replacing

log = logging.getLogger("benexp")

BEST = "optimization_results.yaml"
"""Where the Optuna sweeper writes what it found."""

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Set where the user wants tracebacks; and by benexp, for Hydra to pass exceptions on."""


@dataclass(frozen=True)
class Begun:
    """A sweep that Hydra has begun: where its results go, where Hydra's own files lie, and what is swept."""

    output_folder: Path
    hydra_folder: Path
    swept: Swept


begun: list[Begun] = []
"""Hydra tells its callbacks alone where a sweep goes to, and keeps what they return to itself."""


class SweepRefusedError(BaseException):
    """Ends a sweep before it begins. No Exception: of those that its callbacks raise Hydra makes warnings."""


class Begin(Callback):
    """Hydra's word that a sweep begins, before its jobs do."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        varied = swept(config.hydra)
        if why := varied.refused(config.task.name):
            raise SweepRefusedError(why)
        begun.append(Begun(Path(config.output_folder), Path(config.hydra.sweep.dir), varied))
        put_repeats_outermost(config.hydra)
        if config.task.name == "benchmark" and not config.resume and not config.dry_run:
            shutil.rmtree(Path(config.output_folder) / CEILINGS, ignore_errors=True)
        if "optuna" in config.hydra.sweeper["_target_"]:
            import optuna

            optuna.logging.set_verbosity(logging.ERROR)
            # That a trial failed is said already, with the reason.
            logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)
        if config.task.name == "benchmark" and side_by_side(config.hydra.launcher):
            log.warning(
                "%s runs jobs side by side, which disturb each other's times, and each counts on all the memory that "
                "is free: for times that can be compared, leave out hydra/launcher",
                OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher"),
            )


@dataclass(frozen=True)
class Job:
    """What Hydra calls with a composed configuration.

    It never raises, because Hydra would leave the other jobs of a sweep undone. What became of it is noted in `alone`,
    or, in a sweep, in a file: launchers run jobs in processes of their own, some of which die.
    """

    debug: bool
    """Whether exceptions that are not for users are raised all the same."""
    sweep: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    """Tells the sweep from others into the same folder."""
    started: float = field(default_factory=time.time)
    process: int = field(default_factory=os.getpid)
    alone: list[dict[str, Any]] = field(default_factory=list)
    sweeps: list[Begun] = field(default_factory=lambda: begun)
    """Those that were begun, of which a copy goes with a job to another process."""

    def __call__(self, composed: DictConfig) -> float | None:
        """Do the job; its objective, which a sweeper may want to maximise."""
        hydra = HydraConfig.get()
        in_sweep = hydra.mode == RunMode.MULTIRUN
        this_sweep.set(self.sweep if in_sweep else None)
        here = os.getpid() == self.process
        if not here:
            set_up_logging()
        outcome = {
            "job": hydra.job.num if in_sweep else 0,
            "task": composed.task.name,
            "overrides": as_given(hydra),
        }
        file = Path(hydra.sweep.dir) / self.sweep / f"{outcome['job']}.json"
        if in_sweep:
            _write(file, outcome | {"status": "unfinished"})
            say(self._heading(hydra.job.num, outcome["overrides"]))
        try:
            if in_sweep and composed.task.name == "benchmark":
                from benexp.benchmarking.failed_job import report_of

                outcome |= report_of(composed)
                _write(file, outcome | {"status": "unfinished"})
            with self._environment():
                records = run(composed, outcome["overrides"], say, in_sweep=in_sweep)
            outcome |= {"status": "done", "objective": _objective(composed.task.name, records)}
        except Exception as error:
            if self.debug and not isinstance(error, BenexpError):
                raise
            outcome |= {"status": "failed", "error": explain(error), "here": here}
            if here:
                log.error("%s", outcome["error"])
        if in_sweep:
            _write(file, outcome)
        else:
            self.alone.append(outcome)
        return outcome.get("objective")

    def _heading(self, job: int, overrides: list[str]) -> str:
        """Which job of the sweep it is: `job 3 of 16: backend=torch benchmark.repeat=1`."""
        asked = self.sweeps[-1].swept if self.sweeps else Swept()
        count = f"job {job + 1} of {asked.jobs}" if asked.jobs else f"job {job + 1}"
        words = asked.words(overrides)
        return f"{count}: {words}" if words else count

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """What the user set, and no more."""
        before = os.environ.get(FULL_ERROR)
        if not self.debug:
            os.environ.pop(FULL_ERROR, None)
        try:
            yield
        finally:
            if before is not None:
                os.environ[FULL_ERROR] = before

    def end(self, interrupted: bool) -> bool:
        """Report on the jobs of the sweep, if there was one; whether all went well."""
        outcomes = [*self.alone]
        agree = True
        for sweep in self.sweeps:
            files = sorted((sweep.hydra_folder / self.sweep).glob("*.json"), key=lambda file: int(file.stem))
            own = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            outcomes += own
            _tell(own, sweep.swept.jobs, interrupted)
            if any(outcome["task"] == "benchmark" for outcome in own):
                from benexp.benchmarking.sweep_report import join, written

                agree = join(sweep.output_folder, written(sweep.output_folder, own), say) and agree
            _tell_best(sweep.hydra_folder / BEST, self.started)
        return agree and all(outcome["status"] == "done" for outcome in outcomes)

    def interrupt(self) -> None:
        """Interrupt what a launcher has left running on this machine, and wait until it has tidied up.

        joblib stops its own; submitit means its jobs to go on, unless a Ctrl-C reaches them, too.
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


def _objective(task: str, records: Sequence[Mapping[str, Any]]) -> float | None:
    """Patches per second over all products: what `hydra/sweeper=optuna` maximises."""
    if task != "benchmark" or not all("seconds" in record for record in records):  # as with dry_run
        return None
    return float(sum(record["patches"] for record in records) / sum(record["seconds"] for record in records))


def _write(file: Path, outcome: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")


def _tell(outcomes: Sequence[Mapping[str, Any]], asked: int | None, interrupted: bool) -> None:
    """How many jobs there were of those `asked` for, and what nobody has been told yet of those that failed."""
    for outcome in outcomes:
        if outcome["status"] == "failed" and not outcome["here"]:
            log.error("job %d: %s", outcome["job"] + 1, outcome["error"])
        if outcome["status"] == "unfinished" and not interrupted:
            log.error("job %d: its process ended before its work did: was memory short?", outcome["job"] + 1)
    if outcomes:
        counts = Counter(outcome["status"] for outcome in outcomes)
        hint = ""
        if interrupted:
            counts["interrupted"] = counts.pop("unfinished", 0)
            counts["not begun"] = (asked or 0) - len(outcomes)
            hint = "; the same command goes on from here"
        told = (f"{count} {status}" for status, count in sorted(counts.items()) if count > 0)
        say(f"jobs: {', '.join(told)}{hint}")


def _tell_best(file: Path, since: float) -> None:
    if file.exists() and file.stat().st_mtime >= since:
        best = OmegaConf.load(file)
        if "best_value" in best:
            parameters = " ".join(f"{key}={value}" for key, value in best.best_params.items())
            say(f"best of the trials: {best.best_value:.1f} patches/s with {parameters}")
