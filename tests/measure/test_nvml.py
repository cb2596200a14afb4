"""GPUs, on a stand-in for NVIDIA's library with the names and units of nvidia-ml-py."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from benexp.measure import nvml


class NVMLError(Exception):
    pass


class Library(SimpleNamespace):
    """Two GPUs; the second tells no energy, and the driver knows an old name only."""

    NVMLError = NVMLError
    energy = 5_000

    def __init__(self, driver: bool = True) -> None:
        super().__init__()
        self.driver = driver

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlSystemGetDriverVersion": lambda: "575.1",
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetHandleByUUID": lambda uuid: {"GPU-b": 1}[uuid],
            "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80_000_000_000, used=3_000_000),
            "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
            "nvmlDeviceGetPowerUsage": lambda handle: 123_400,
            "nvmlDeviceGetTotalEnergyConsumption": self.joules,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x40,
        }
        return answers.get(name, self.unknown)

    def joules(self, handle: int) -> int:
        if handle == 1:
            raise NVMLError("Not Supported")
        self.energy += 2_000
        return self.energy

    def unknown(self, *_: Any) -> None:
        raise NVMLError("Function Not Found")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    nvml._nvml.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield monkeypatch
    nvml._nvml.cache_clear()


@pytest.fixture
def two_gpus(fresh: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    fresh.setitem(sys.modules, "pynvml", Library())  # type: ignore[arg-type]
    return fresh


def test_units(two_gpus: pytest.MonkeyPatch) -> None:
    first = nvml.gpus()[0]
    assert first.facts() == {"name": "GPU 0", "memory_gb": 80.0, "power_limit_watts": 700.0}
    assert (first.memory_used(), first.watts(), first.joules()) == (3_000_000, 123.4, 7.0)
    assert first.clock_reasons() == 0x40
    assert nvml.driver() == "575.1"


def test_what_a_gpu_does_not_tell_is_none(two_gpus: pytest.MonkeyPatch) -> None:
    assert nvml.gpus()[1].joules() is None


@pytest.mark.parametrize(
    ("visible", "device", "name"),
    [
        (None, "cuda", "GPU 0"),
        (None, "cuda:1", "GPU 1"),
        ("1", "cuda", "GPU 1"),
        ("1,0", "cuda:1", "GPU 0"),
        ("GPU-b", "cuda:0", "GPU 1"),
        ("1", "cuda:1", None),
        (None, "cpu", None),
    ],
)
def test_devices_count_among_the_visible(
    visible: str | None, device: str, name: str | None, two_gpus: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        two_gpus.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = nvml.gpu(device)
    assert (found and found.facts()["name"]) == name


def test_without_the_package_there_is_nothing(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert (nvml.gpus(), nvml.gpu("cuda"), nvml.driver()) == ([], None, None)


def test_without_a_driver_there_is_nothing(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "pynvml", Library(driver=False))  # type: ignore[arg-type]
    assert (nvml.gpus(), nvml.gpu("cuda"), nvml.driver()) == ([], None, None)
