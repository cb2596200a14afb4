"""Schedulers and workers that are started for one run: on this machine, or as jobs of SLURM."""

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

from benexp.config.schema import Execution
from benexp.core import cores
from benexp.core.errors import BenexpError, one_line
from benexp.execution.worker import worker_environment

FOR_TILES = "tile"
"""The resource of which a worker has one and every tile takes one: two tiles at once would need twice the memory."""
INSTALL = "pip install 'benexp[dask]'"
# A worker's memory is that of the engine and of decoded blocks, not of results that could be put on a disk: one that
# was paused for it would stay so.
MEMORY = {f"distributed.worker.memory.{part}": False for part in ("target", "spill", "pause")}
# As dask has it, but for MALLOC_TRIM_THRESHOLD_: with it every block that is decoded is paged in anew.
ENVIRONMENT = {f"{library}_NUM_THREADS": 1 for library in ("OMP", "MKL", "OPENBLAS")}


def import_distributed() -> Any:
    """The library. Raises BenexpError with the command that installs it."""
    try:
        import distributed
    except ImportError as error:
        raise BenexpError(f"execution=dask needs {error.name}: {INSTALL}") from error
    return distributed


@contextlib.contextmanager
def cluster(settings: Execution) -> Iterator[Any]:
    """A scheduler in this process, and its workers, which are on their way."""
    with warnings.catch_warnings():
        # Where the dashboard's usual port is taken, another will do: the link says which.
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        with _slurm(settings) if settings.slurm.jobs else _local(settings) as made:
            yield made


@contextlib.contextmanager
def _local(settings: Execution) -> Iterator[Any]:
    import dask

    distributed = import_distributed()
    share = max(1, cores.available() // settings.workers)
    # Workers take over the configuration of the process that starts them.
    with dask.config.set({**MEMORY, "distributed.nanny.pre-spawn-environ": ENVIRONMENT}):
        try:
            made = distributed.LocalCluster(
                n_workers=settings.workers,
                threads_per_worker=settings.threads,
                memory_limit=settings.memory,
                resources={FOR_TILES: 1},
                env=worker_environment(share),
                dashboard_address="127.0.0.1:8787",
                silence_logs=logging.CRITICAL,
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise BenexpError(f"execution=dask: no workers can be started: {one_line(error)}") from error
        with made:
            yield made


@contextlib.contextmanager
def _slurm(settings: Execution) -> Iterator[Any]:
    if not shutil.which("sbatch"):
        raise BenexpError("execution.slurm.jobs: no sbatch on this machine: run benexp where jobs are submitted")
    try:
        made = slurm_cluster(settings)
    except (ValueError, OSError, RuntimeError) as error:
        raise BenexpError(f"execution.slurm: {one_line(error)}") from error
    with made:
        try:
            made.scale(jobs=settings.slurm.jobs)
        except (OSError, RuntimeError) as error:
            raise BenexpError(f"execution.slurm: {one_line(error)}") from error
        yield made


def slurm_cluster(settings: Execution) -> Any:
    """The cluster, of which no job is submitted yet; `job_script()` is what sbatch will get."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise BenexpError(f"execution.slurm needs dask_jobqueue: {INSTALL}") from error
    slurm = settings.slurm
    memory = [f"export DASK_{key.upper().replace('.', '__')}=False" for key in MEMORY]
    environment = [f"export {key}={value}" for key, value in worker_environment(slurm.cores).items()]
    return SLURMCluster(
        queue=slurm.partition,
        account=slurm.account,
        cores=settings.threads,
        job_cpu=slurm.cores,
        processes=1,
        memory=slurm.memory,
        walltime=slurm.walltime,
        interface=slurm.interface,
        job_name="benexp",
        job_extra_directives=slurm.directives,
        job_script_prologue=[*memory, *environment, *slurm.setup],
        worker_extra_args=["--resources", f"{FOR_TILES}=1"],
        silence_logs=logging.CRITICAL,
    )
