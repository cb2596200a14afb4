"""The facts and readings of GPUs from NVIDIA's management library, where nvidia-ml-py and a driver are installed."""

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

from benexp.records.environment import GpuFacts

HARDWARE_SLOWDOWN, THERMAL_SLOWDOWN, POWER_CAP = 0x08 | 0x80, 0x20 | 0x40, 0x04
"""Reasons why a GPU clocks lower than it could, bits of `NvmlGpu.clock_reasons`."""


class NvmlGpu:
    """One GPU. What it does not tell is None: older ones count no energy, virtual ones tell no power."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def facts(self) -> GpuFacts:
        memory, limit = self._ask("nvmlDeviceGetMemoryInfo"), self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return {
            "name": self._ask("nvmlDeviceGetName"),
            "memory_gb": None if memory is None else round(memory.total / 1e9, 1),
            "power_limit_watts": None if limit is None else limit / 1000,
        }

    def memory_used(self) -> int | None:
        """Bytes in use by all processes: inside a container a process does not find itself in NVML's list."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def watts(self) -> float | None:
        """The power it draws, on newer GPUs averaged over a second."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1000

    def joules(self) -> float | None:
        """The energy used since its driver was loaded."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def clock_reasons(self) -> int | None:
        """Bits of why its clock is held down at this moment."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            # Drivers before 535 know the older name only.
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if reasons is None else int(reasons)

    def _ask(self, function: str) -> Any:
        return _ask(function, self._handle)


def gpus() -> list[NvmlGpu]:
    """All of the machine, in the driver's order, whether or not this process may use them."""
    handles = (_ask("nvmlDeviceGetHandleByIndex", index) for index in range(_ask("nvmlDeviceGetCount") or 0))
    return [NvmlGpu(handle) for handle in handles if handle is not None]


def gpu(device: str) -> NvmlGpu | None:
    """The one that a backend calls `cuda` or `cuda:1`: counted among those that CUDA_VISIBLE_DEVICES lets it see.

    CUDA puts the fastest first and NVML goes by bus: on a machine with several kinds CUDA_DEVICE_ORDER=PCI_BUS_ID makes
    them agree.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    index = int(number or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        if index >= len(names):
            return None
        if not names[index].isdigit():
            handle = _ask("nvmlDeviceGetHandleByUUID", names[index])
            return None if handle is None else NvmlGpu(handle)
        index = int(names[index])
    handle = _ask("nvmlDeviceGetHandleByIndex", index)
    return None if handle is None else NvmlGpu(handle)


def driver() -> str | None:
    version = _ask("nvmlSystemGetDriverVersion")
    return None if version is None else str(version)


def _ask(function: str, *arguments: Any) -> Any:
    """None where there is no NVML, or where it does not tell."""
    nvml = _nvml()
    if nvml is None:
        return None
    ask: Callable[..., Any] = getattr(nvml, function)
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None


@functools.cache
def _nvml() -> Any:
    """The library, ready for questions; None where the package, the driver or a GPU is missing."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml
