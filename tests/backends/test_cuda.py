"""What NVIDIA's driver says."""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


def test_a_gpu_is_asked_for_its_name_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends.cuda import gpu_name

    def refuse(name: str) -> Callable[..., int]:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert gpu_name(0) is None


@pytest.mark.parametrize(("answers", "name"), [((0, 0, 0), "GPU X"), ((100, 0, 0), None), ((0, 101, 0), None)])
def test_a_gpu_says_its_name(answers: tuple[int, int, int], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends.cuda import gpu_name

    def write(buffer: Any, size: int, device: Any) -> int:
        buffer.value = b"GPU X"
        return answers[2]

    driver = SimpleNamespace(
        cuInit=lambda flags: answers[0], cuDeviceGet=lambda at, index: answers[1], cuDeviceGetName=write
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert gpu_name(3) == name
