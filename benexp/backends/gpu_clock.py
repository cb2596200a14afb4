"""Batches that are only put into a GPU's queue, timed by its own clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class GpuClock:
    """Times batches in the stream that torch works in on `device`."""

    def __init__(self, device: "str | torch.device") -> None:
        self._device = device
        self._events: list[tuple[Any, Any]] = []

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Times what the block puts into the queue."""
        import torch

        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(self._device)
        begun.record(stream)
        yield
        ended.record(stream)
        self._events.append((begun, ended))

    def report(self, on_batch: Callable[[float], object]) -> None:
        """Hand over the seconds of every batch; all of them must be done."""
        for begun, ended in self._events:
            on_batch(begun.elapsed_time(ended) / 1000)
