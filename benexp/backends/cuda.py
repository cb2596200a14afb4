"""NVIDIA's driver and CUDA's libraries in this process, asked without any package."""

import ctypes
import os
from importlib import import_module
from pathlib import Path
from typing import Any

TF32 = "NVIDIA_TF32_OVERRIDE"
"""CUDA's libraries read it when they load: 0 keeps them all from TF32."""
_READERS = ("libcublas", "libcudnn", "libnvinfer")

_off_in_time: bool | None = None


def keep_fp32() -> None:
    """Switch TF32 off in this process, for CUDA's libraries that are not loaded yet; a user's setting stands."""
    global _off_in_time
    if _off_in_time is None:
        maps = Path("/proc/self/maps")
        loaded = maps.read_text() if maps.is_file() else ""
        known = os.environ.setdefault(TF32, "0") == "0"
        _off_in_time = known and not any(library in loaded for library in _READERS)


def may_be_tf32() -> bool:
    """True where CUDA's libraries may round fp32 to TF32: they loaded too early, or the user wants it."""
    return not _off_in_time


def gpu_name(index: int) -> str | None:
    """The name of a GPU as this process counts them (CUDA_VISIBLE_DEVICES); None where there is no driver or GPU."""
    driver, device, name = _driver(), ctypes.c_int(), ctypes.create_string_buffer(256)
    # Every call answers 0 where it worked.
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), index):
        return None
    return None if driver.cuDeviceGetName(name, len(name), device) else name.value.decode()


def gpu_count() -> int:
    """The number of GPUs that this process sees."""
    driver, count = _driver(), ctypes.c_int()
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def cuda_mix() -> str | None:
    """In words, where ONNX Runtime and torch are built for different CUDA, and so cannot share its libraries."""
    majors = {}
    for name, module, attribute in (
        ("onnxruntime-gpu", "onnxruntime.capi.build_and_package_info", "cuda_version"),
        ("torch", "torch.version", "cuda"),
    ):
        try:
            version = getattr(import_module(module), attribute, None)
        except (ImportError, OSError):
            continue
        if version:
            majors[name] = str(version).partition(".")[0]
    if len(set(majors.values())) < 2:
        return None
    built = " and ".join(f"{name} for CUDA {major}" for name, major in majors.items())
    return f"{built}: both bring cuDNN into nvidia/cudnn/lib, where one overwrites the other; install both for one CUDA"


def _driver() -> Any:
    """The driver's library, started; None where there is none."""
    try:
        driver: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver
