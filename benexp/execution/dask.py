"""Workers of dask.distributed: on this machine, behind a scheduler that runs already, or in jobs of SLURM."""

import contextlib
import logging
import queue
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from benexp.config.schema import Execution
from benexp.core.errors import BenexpError, one_line
from benexp.execution.clusters import FOR_TILES, cluster, import_distributed
from benexp.execution.worker import Call, CallOutcome, WorkerRuntime, WorkerTask
from benexp.version import __version__

log = logging.getLogger("benexp")

PREFIX = "benexp-"
"""Names of what a run leaves with workers begin so; its client's id follows."""
CONNECT = 10
"""Seconds in which a scheduler must answer."""
LOOK = 2
"""Seconds between looks at whether anybody is still at work."""
NOISY = ("distributed", "tornado", "asyncio")
"""Have loggers below them with levels of their own."""
RESUME = "what was classified is kept, and the same command goes on from there"


class DaskPool:
    """A client of a scheduler, whose workers each open the task once, when their first task comes."""

    shares_chunks = True

    def __init__(self, task: WorkerTask, settings: Execution) -> None:
        self._distributed = import_distributed()
        self._task = task
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._name = ""
        self.workers = settings.slurm.jobs or settings.workers

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._connect(stack)
            self._wait_for_workers()
            self._compare_versions()
            self._forget_the_dead()
            self._name = f"{PREFIX}{self._client.id}"
            self._client.register_plugin(_plugin(self._task), name=self._name)
            stack.callback(self._quietly, self._client.unregister_worker_plugin, self._name)
            if self._settings.address:
                self.workers = len(self._addresses())
            log.info("%d workers of %s; dashboard: %s", self.workers, self._where, self._client.dashboard_link)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def outcomes(self, method: str, calls: Sequence[Call]) -> Iterator[tuple[int, CallOutcome]]:
        """See WorkerPool."""
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Other people's workers need not know what a tile is to be able to take one.
        limits = {FOR_TILES: 1} if method == "tile" and not self._settings.address else None
        run = uuid.uuid4().hex[:8]
        waiting: dict[Any, int] = {}
        try:
            for number, call in enumerate(calls):
                future = self._client.submit(
                    *(_work, self._name, __version__, method, call),
                    key=f"{method}-{run}-{number}",
                    pure=False,
                    resources=limits,
                )
                waiting[future] = number
                future.add_done_callback(ended.put)
            while waiting:
                future = self._next(ended)
                number = waiting.pop(future)
                yield number, self._outcome(future)
        finally:
            if waiting:
                self._quietly(self._client.cancel, list(waiting))

    def _next(self, ended: "queue.SimpleQueue[Any]") -> Any:
        """The next task that ended, while there is anybody who could end one."""
        seen = time.monotonic()
        while True:
            try:
                return ended.get(timeout=LOOK)
            except queue.Empty:
                pass
            if self._client.status != "running":
                raise self._lost()
            if self._addresses():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._settings.patience:
                raise BenexpError(
                    f"execution=dask: {self._where} has had no worker for {self._settings.patience:g} s "
                    f"(execution.patience): start some; {RESUME}"
                )

    def _outcome(self, future: Any) -> CallOutcome:
        if future.status in ("cancelled", "lost"):
            raise self._lost()
        try:
            outcome = future.result()
        except self._distributed.scheduler.KilledWorker as error:
            # Of this one task: the others may well fit.
            failure = BenexpError(
                f"execution=dask: {error.allowed_failures + 1} workers died over the same task: see whether memory is "
                f"short (execution.memory={self._settings.memory}), and choose a smaller chunking.chunk_size or "
                f"backend.batch_size, or fewer execution.threads; {RESUME}"
            )
            return CallOutcome(None, failure, ())
        except (self._distributed.CancelledError, self._distributed.comm.CommClosedError) as error:
            raise self._lost() from error
        if not isinstance(outcome, CallOutcome):
            raise BenexpError(f"execution=dask: a worker answered with {type(outcome).__name__}: is it benexp's?")
        return outcome

    def _lost(self) -> BenexpError:
        return BenexpError(f"execution=dask: {self._where} does not answer any more: {RESUME}")

    def _connect(self, stack: contextlib.ExitStack) -> None:
        settings = self._settings
        # Its warnings are of its own affairs; what matters to a run, the run says.
        for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in NOISY]:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        self._where = f"the scheduler at {settings.address}" if settings.address else "dask's scheduler in this process"
        target = settings.address or stack.enter_context(cluster(settings))
        try:
            self._client = self._distributed.Client(target, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise BenexpError(
                f"execution.address={settings.address}: no scheduler answers there ({one_line(error)}): "
                f"start one with dask scheduler, or leave it out for workers on this machine"
            ) from error
        stack.callback(self._quietly, self._client.close)

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=self._settings.patience)
        except (TimeoutError, self._distributed.TimeoutError) as error:
            raise BenexpError(
                f"execution=dask: {self._where} has no worker after {self._settings.patience:g} s: start some, or wait "
                f"for longer with execution.patience"
            ) from error

    def _compare_versions(self) -> None:
        """Refuse workers that would make another map, or none."""

        def version() -> str:
            # Nested, so that it travels as code: the worker may have no benexp at all.
            from importlib import import_module

            try:
                return str(import_module("benexp.version").__version__)
            except ImportError:
                return "none"

        for worker, found in self._client.run(version).items():
            if found != __version__:
                raise _refusal(worker, found)

    def _forget_the_dead(self) -> None:
        """Close what runs that were killed have left open in workers that run on."""

        def left(prefix: str, dask_scheduler: Any) -> list[str]:
            names = [str(name) for name in dask_scheduler.worker_plugins]
            living = set(dask_scheduler.clients)
            return [name for name in names if name.startswith(prefix) and name.removeprefix(prefix) not in living]

        for name in self._client.run_on_scheduler(left, prefix=PREFIX):
            self._quietly(self._client.unregister_worker_plugin, name)

    def _addresses(self) -> list[str]:
        try:
            return list(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, RuntimeError, ValueError, KeyError):
            return []

    def _quietly(self, function: Any, *arguments: Any) -> None:
        """Tidy up, as far as the other side is still there; the client would wait for it to come back."""
        if self._client.status != "running" and function != self._client.close:
            return
        try:
            function(*arguments)
        except Exception as error:
            log.debug("%s: %s", function, one_line(error))


def _refusal(worker: str, found: str) -> BenexpError:
    has = "has no benexp" if found == "none" else f"has benexp {found}"
    return BenexpError(
        f"execution=dask: the worker at {worker} {has}, here is {__version__}: install the same everywhere, "
        f"or the tiles would not be of one kind"
    )


def _plugin(task: WorkerTask) -> Any:
    from distributed import WorkerPlugin

    class Keeper(WorkerPlugin):  # type: ignore[misc]
        """Keeps a worker's runtime, also of one that comes later."""

        def __init__(self, task: WorkerTask) -> None:
            self._task = task
            self.runtime: WorkerRuntime | None = None

        def setup(self, worker: Any) -> None:
            # Only those that dask started for us on this machine have numbers for names.
            number = worker.name if isinstance(worker.name, int) else None
            if number is not None:
                # Ctrl-C reaches them too, but the run stops them itself.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.runtime = WorkerRuntime(self._task, number)

        def teardown(self, worker: Any) -> None:
            if self.runtime:
                self.runtime.close()

    return Keeper(task)


def _work(name: str, version: str, method: str, call: Call) -> CallOutcome:
    """In a worker: call the task that the run of this name left with it."""
    from distributed import get_worker

    worker = get_worker()
    # Here too: some come later than the run began.
    if version != __version__:
        return CallOutcome(None, _refusal(worker.address, __version__), ())
    return worker.plugins[name].runtime.do(method, call)  # type: ignore[no-any-return]
