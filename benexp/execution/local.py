"""Workers that are processes of this machine, from Python's own library."""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any, Self

from benexp.core import cores
from benexp.core.errors import BenexpError
from benexp.execution.worker import Call, CallOutcome, WorkerRuntime, WorkerTask, worker_environment

log = logging.getLogger("benexp")

RETRIES = 3
"""The number of times that a worker process may die while a task runs, in the same process or in another one, before
the task is tried alone. The next death is put down to the task."""
PATIENCE = 10
"""Seconds in which a process whose parent died may tidy up."""

_runtime: WorkerRuntime | None = None
"""The runtime of a worker process: the only state that it keeps."""


class _Worker(SpawnProcess):
    """Told by its class from processes that are the caller's own."""


class _Context(SpawnContext):
    Process = _Worker


class LocalPool:
    """So many processes, of which each opens the task once; together they use the cores there are."""

    shares_chunks = False

    def __init__(self, task: WorkerTask, workers: int) -> None:
        self.workers = workers
        self._task = task
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def outcomes(self, method: str, calls: Sequence[Call]) -> Iterator[tuple[int, CallOutcome]]:
        """See WorkerPool."""
        together, alone = deque(range(len(calls))), deque[int]()
        deaths = Counter[int]()
        while together or alone:
            # What was often under way when a process died comes last, by itself: then it is known who kills.
            queue = together or deque([alone.popleft()])
            at_once = self.workers if queue is together else 1
            killed = yield from self._until_one_dies(method, calls, queue, at_once)
            if not killed:
                continue
            # When a process dies, the pool stops the others too: they go on from the chunks they had saved.
            self._stop()
            if queue is not together:
                yield killed[0], CallOutcome(None, _deadly(), ())
                continue
            log.warning("a worker process was killed (was memory short?): what it was at is done again")
            deaths.update(killed)
            together.extendleft(number for number in killed if deaths[number] < RETRIES)
            alone.extend(number for number in killed if deaths[number] >= RETRIES)

    def _until_one_dies(
        self, method: str, calls: Sequence[Call], queue: deque[int], at_once: int
    ) -> Generator[tuple[int, CallOutcome], None, list[int]]:
        """Work through the numbers in `queue`; those that were under way when a process died, if one did."""
        under_way: dict[Future[CallOutcome], int] = {}
        killed: list[int] = []
        while under_way or (queue and not killed):
            while queue and not killed and len(under_way) < at_once:
                number = queue.popleft()
                pool = self._started()
                try:
                    with _interrupts_blocked():
                        under_way[pool.submit(_work, method, calls[number])] = number
                except BrokenProcessPool:
                    killed.append(number)  # an idle one died
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                number = under_way.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    killed.append(number)
                else:
                    yield number, outcome
        return killed

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Spawned: forked copies of engines and their threads hang.
            context: Any = _Context()
            share = max(1, cores.available() // self.workers)
            self._pool = ProcessPoolExecutor(
                self.workers, context, _begin, (self._task, context.Value("i", 0), worker_environment(share))
            )
        return self._pool

    def _stop(self) -> None:
        """Also where they are in the middle of something."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            for process in multiprocessing.active_children():
                if isinstance(process, _Worker):
                    process.terminate()
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back from processes that are started in the block, which inherit this, until `_begin` ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _deadly() -> BenexpError:
    return BenexpError(
        f"worker processes were killed {RETRIES + 1} times over it: see whether memory is short, and choose fewer "
        f"execution.workers or a smaller chunking.chunk_size; what was classified is kept"
    )


def _begin(task: WorkerTask, counter: Any, environment: dict[str, str]) -> None:
    """Be a worker. Ctrl-C reaches the parent alone, which then knows what it stops."""
    global _runtime
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    os.environ.update(environment)
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    _runtime = WorkerRuntime(task, number)


def _work(method: str, call: Call) -> CallOutcome:
    assert _runtime
    try:
        return _runtime.do(method, call)
    except SystemExit:
        # Else the pool's code would take it for an answer, and wait for more work for ever.
        os._exit(1)


def _end(*_: object) -> None:
    """Tidy up on the way out; a second time there is no more patience."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    wait_for([parent.sentinel])
    with suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(PATIENCE)
    os._exit(1)
