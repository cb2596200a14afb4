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


@pytest.mark.parametrize(("started", "count", "found"), [(0, 3, 3), (100, 3, 0), (0, 0, 0)])
def test_gpus_are_counted_by_the_driver(started: int, count: int, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends.cuda import gpu_count

    def write(into: Any) -> int:
        into._obj.value = count
        return 0

    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: started, cuDeviceGetCount=write)
    )
    assert gpu_count() == found


@pytest.mark.parametrize(
    ("runtime", "torch", "said"),
    [
        ("13.0", "12.8", "onnxruntime-gpu for CUDA 13 and torch for CUDA 12: both bring cuDNN"),
        ("12.8", "12.6", None),
        (None, "12.6", None),  # for CPUs
        ("13.0", None, None),
    ],
)
def test_libraries_for_two_versions_of_cuda_are_named(
    runtime: str | None, torch: str | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benexp.backends import cuda

    versions = {
        "onnxruntime.capi.build_and_package_info": SimpleNamespace(cuda_version=runtime),
        "torch.version": SimpleNamespace(cuda=torch),
    }
    monkeypatch.setattr(cuda, "import_module", versions.__getitem__)
    found = cuda.cuda_mix()
    assert found is None if said is None else str(found).startswith(said)


def test_libraries_that_are_not_there_are_no_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends import cuda

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(cuda, "import_module", missing)
    assert cuda.cuda_mix() is None
