"""What NVIDIA's driver says of a GPU, asked without any package."""

import ctypes
from typing import Any


def gpu_name(index: int) -> str | None:
    """The name of a GPU as this process counts them (CUDA_VISIBLE_DEVICES); None where there is no driver or GPU."""
    try:
        driver: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    # Every call answers 0 where it worked.
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, len(name), device)
    )
    return None if failed else name.value.decode()
