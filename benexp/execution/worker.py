"""The contract between a run and its workers, whatever starts them.

A chunk whose worker is killed goes back to the pool, which gives it to another worker (`local.py`, `dask.py`).
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from benexp.core.cores import SHARE
from benexp.core.errors import BenexpError, one_line

log = logging.getLogger("benexp")

Call = tuple[Any, ...]
"""Arguments of one call of a worker task: paths, numbers and small arrays."""


class WorkerTask(Protocol):
    """The work that a worker opens once and keeps. It is sent to workers closed: paths, configuration, small arrays."""

    def open(self, number: int | None) -> None:
        """Once, in the worker, which is that of this number on its machine; None where others number their workers."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class CallOutcome:
    """The result of one call: a value or an error."""

    value: Any
    error: BenexpError | None
    messages: Sequence[tuple[int, str]]
    """Level and text of what benexp logged in the worker since the last outcome."""


class WorkerPool(AbstractContextManager["WorkerPool"], Protocol):
    """Workers, each with the task open; started on entering, stopped on leaving."""

    workers: int
    """The number of workers, including those that have yet to start."""
    shares_chunks: bool
    """True if distributing the chunks of one tile is worthwhile. On one machine the tile's own threads do as well."""

    def outcomes(self, method: str, calls: Sequence[Call]) -> Iterator[tuple[int, CallOutcome]]:
        """The outcomes of `task.method(*call)`, each with the index of its call, in the order in which they end.

        Work of a worker that dies is done again elsewhere, a few times. Raises BenexpError where no worker is left, or
        the pool itself is lost.
        """
        ...


class WorkerRuntime:
    """The worker's side: its one open task, and the log messages since the last outcome. Any thread may call it."""

    def __init__(self, task: WorkerTask, number: int | None = None) -> None:
        self._task = task
        self._number = number
        self._is_open = False
        self._turn = threading.Lock()
        self._messages = _Messages()
        log.addHandler(self._messages)
        log.setLevel(logging.INFO)

    def do(self, method: str, call: Call) -> CallOutcome:
        """Call a method of the task, which is opened first where it is not."""
        value, failure = None, None
        try:
            with self._turn:
                if not self._is_open:
                    self._task.open(self._number)
                    self._is_open = True
            value = getattr(self._task, method)(*call)
        except BenexpError as error:
            # Told apart from what ends a worker. A copy: causes and tracebacks hold what cannot travel.
            failure = BenexpError(str(error))
        except Exception as error:
            failure = BenexpError(f"unexpected {one_line(error)} (in a worker)")
        return CallOutcome(value, failure, self._messages.drained())

    def close(self) -> None:
        log.removeHandler(self._messages)
        if self._is_open:
            self._is_open = False
            self._task.close()


class _Messages(logging.Handler):
    """Keeps log messages, to be logged where the run is."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[tuple[int, str]] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.levelno, record.getMessage()))

    def drained(self) -> list[tuple[int, str]]:
        kept = []
        while self._kept:
            kept.append(self._kept.popleft())
        return kept


def worker_environment(cores: int) -> dict[str, str]:
    """The environment of a worker that shares a machine with others: its cores, and no progress bar of its own."""
    return {SHARE: str(cores), "TQDM_DISABLE": "1"}


def log_messages(outcome: CallOutcome) -> None:
    """Log here what was logged in the worker."""
    for level, text in outcome.messages:
        log.log(level, "%s", text)
