"""The entry of the command line: runs Hydra on the arguments and returns the exit code."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benexp.cli import interrupts
from benexp.cli.wording import FULL_ERROR, OPTUNA, error_message
from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.core.console import set_up_logging

log = logging.getLogger("benexp")

SWEEP = ("-m", "--multirun")
FOR_OPTUNA = ("hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1", "hydra.sweeper.max_failure_rate=1")
"""The settings of Optuna for benchmarks: they return patches per second, run one at a time, and may fail."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Returns 0, 1 where anything failed, 130 after Ctrl-C, or 143 after SIGTERM."""
    set_up_logging()

    import hydra

    from benexp.cli.job_runner import JobRunner
    from benexp.cli.sweep_end import interrupt_launched_jobs, report_sweep
    from benexp.cli.sweep_start import SweepRefusedError, started_sweeps
    from benexp.tracking.recorder_client import close_sweeps

    debug = FULL_ERROR in os.environ
    runner, began = JobRunner(debug), time.time()
    started_sweeps.clear()
    code = 0
    try:
        given = [*(FOR_OPTUNA if OPTUNA in arguments else ()), *map(quote, arguments)]
        # Flags first: argparse takes no `key=value -m key=value`.
        sys.argv[1:] = sorted(given, key=lambda argument: argument not in SWEEP)
        with _exceptions_from_hydra():
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(runner)()
    except SweepRefusedError as refused:
        log.error("%s", refused)
        code = 1
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.is_interrupt(error):
            interrupts.end_at_once()  # also a second one
            log.error("%s", interrupts.message(error))
            interrupt_launched_jobs()
            code = interrupts.exit_code()
        elif debug:
            raise
        else:
            log.error("%s", error_message(error, composing=True))
            code = 1
    interrupts.end_at_once()
    interrupted = code > 1
    ended = [report_sweep(sweep, runner.sweep, began, interrupted) for sweep in started_sweeps]
    well = all(ended) and all(outcome.status == "done" for outcome in runner.single_outcomes)
    code = code or (0 if well else 1)
    close_sweeps("interrupted" if interrupted else "failed" if code else "done")
    return code


@contextmanager
def _exceptions_from_hydra() -> Iterator[None]:
    """Let Hydra raise its exceptions, for one-line messages, instead of printing them and exiting."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        del os.environ[FULL_ERROR]
        if before is not None:
            os.environ[FULL_ERROR] = before
