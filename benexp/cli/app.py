"""The command line: Hydra composes the configuration of every job; the exit code says whether all went well."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benexp.cli.wording import OPTUNA, explain
from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.core.console import set_up_logging

log = logging.getLogger("benexp")

SWEEP = ("-m", "--multirun")
FOR_OPTUNA = ("hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1", "hydra.sweeper.max_failure_rate=1")
"""What Optuna must know of benchmarks, which return patches per second, one at a time, and may fail one by one."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    set_up_logging()

    import hydra

    from benexp.cli.jobs import FULL_ERROR, Job, SweepRefusedError, begun
    from benexp.tracking.recorder_client import close_sweeps

    debug = FULL_ERROR in os.environ
    job = Job(debug)
    begun.clear()
    code = 0
    try:
        given = [*(FOR_OPTUNA if OPTUNA in arguments else ()), *map(quote, arguments)]
        # Flags first: argparse takes no `key=value -m key=value`.
        sys.argv[1:] = sorted(given, key=lambda argument: argument not in SWEEP)
        with _exceptions_from_hydra():
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(job)()
    except KeyboardInterrupt:
        log.error("interrupted")
        job.interrupt()
        code = 130
    except SweepRefusedError as refused:
        log.error("%s", refused)
        code = 1
    except Exception as error:
        if debug:
            raise
        log.error("%s", explain(error, composing=True))
        code = 1
    well = job.end(interrupted=code == 130)
    code = code or (0 if well else 1)
    close_sweeps("interrupted" if code == 130 else "failed" if code else "done")
    return code


@contextmanager
def _exceptions_from_hydra() -> Iterator[None]:
    """Hydra passes exceptions on, so that they are worded here, instead of printing them and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before
