"""What workers are given to do, and what they answer, whatever starts them."""

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

Task = tuple[Any, ...]
"""Arguments of one call: paths, numbers and small arrays."""


class Workshop(Protocol):
    """What a worker opens once and keeps. It travels to workers closed: paths, configuration and small arrays."""

    def open(self, number: int | None) -> None:
        """Once, in the worker, which is that of this number on its machine; None where others number their workers."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What a call came to."""

    value: Any
    error: BenexpError | None
    messages: Sequence[tuple[int, str]]
    """Level and text of what benexp said in the worker since the last outcome: nobody looks on there."""


class Engine(AbstractContextManager["Engine"], Protocol):
    """Workers, each with the workshop open; started on entering, stopped on leaving."""

    workers: int
    """How many there are, or will be."""
    shares_chunks: bool
    """Whether the chunks of one tile are worth sharing out: on one machine the tile's own threads do as well."""

    def outcomes(self, method: str, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """What `workshop.method(*task)` comes to, with the index of the task, in the order in which they end.

        Work of a worker that dies is done again elsewhere, a few times. Raises BenexpError where no worker is left, or
        the engine itself is lost.
        """
        ...


class Bench:
    """The worker's end: the one open workshop, and what was said meanwhile. Several threads may call it."""

    def __init__(self, workshop: Workshop, number: int | None = None) -> None:
        self._workshop = workshop
        self._number = number
        self._is_open = False
        self._turn = threading.Lock()
        self._ear = _Ear()
        log.addHandler(self._ear)
        log.setLevel(logging.INFO)

    def do(self, method: str, task: Task) -> Outcome:
        """Call a method of the workshop, which is opened first where it is not."""
        value, failure = None, None
        try:
            with self._turn:
                if not self._is_open:
                    self._workshop.open(self._number)
                    self._is_open = True
            value = getattr(self._workshop, method)(*task)
        except BenexpError as error:
            # Told apart from what ends a worker. A copy: causes and tracebacks hold what cannot travel.
            failure = BenexpError(str(error))
        except Exception as error:
            failure = BenexpError(f"unexpected {one_line(error)} (in a worker)")
        return Outcome(value, failure, self._ear.drained())

    def close(self) -> None:
        log.removeHandler(self._ear)
        if self._is_open:
            self._is_open = False
            self._workshop.close()


class _Ear(logging.Handler):
    """Keeps what is said, for somebody else to say."""

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


def surroundings(cores: int) -> dict[str, str]:
    """The environment of a worker that shares a machine with others: its cores, and no progress bar of its own."""
    return {SHARE: str(cores), "TQDM_DISABLE": "1"}


def tell(outcome: Outcome) -> None:
    """Say here what was said in the worker."""
    for level, text in outcome.messages:
        log.log(level, "%s", text)
