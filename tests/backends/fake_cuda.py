"""CUDA's streams and events by name only: copies happen as late as they may, so that missing waits show as garbage."""

import time
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from benexp.backends.device_patches_torch import Uploader


class FakeStream:
    """Holds what was put into it until somebody waits for it."""

    def __init__(self, device: Any = None) -> None:
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.cuda_stream = 77  # fake_tensorrt.STREAM

    def work_off(self, until: int) -> None:
        for number, (pinned, target) in enumerate(self.pending[:until]):
            with torch.inference_mode():
                target.copy_(pinned)
            self.pending[number] = (target, target)

    def wait_event(self, event: "FakeEvent") -> None:
        event.synchronize()


class FakeEvent:
    """The moment in a stream at which it was recorded."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timing = enable_timing
        self.stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        self.stream, self.until, self.at = stream, len(stream.pending), time.perf_counter()

    def elapsed_time(self, end: "FakeEvent") -> float:
        """Milliseconds."""
        assert self.timing
        assert end.timing
        return 1000 * (end.at - self.at)

    def synchronize(self) -> None:
        assert self.stream, "an event is waited for that was never recorded"
        self.stream.work_off(self.until)


class LateUploader(Uploader):
    """Copies when their event is waited for, and not before."""

    def _pinned(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def _copy(self, pinned: torch.Tensor) -> torch.Tensor:
        target = torch.full_like(pinned, 255 if pinned.dtype == torch.uint16 else 0)
        self._stream.pending.append((pinned, target))
        return target


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, FakeStream]]:
    """torch.cuda as far as device_patches_torch uses it; the tensors that streams were recorded as using."""
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    working = FakeStream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: working)
    recorded: list[tuple[torch.Tensor, FakeStream]] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *used: recorded.append(used))
    return recorded
