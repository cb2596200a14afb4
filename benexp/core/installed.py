"""Installed libraries: torch, and ONNX Runtime, whose distributions share one module and exclude each other."""

from importlib import metadata
from typing import Any

from benexp.core.errors import BenexpError

RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-training",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-cann",
    "onnxruntime-vitisai",
    "ort-nightly",
    "ort-nightly-gpu",
)
"""The distributions that install a module called onnxruntime."""


def installed_runtimes() -> list[str]:
    """The installed distributions of ONNX Runtime; more than one break each other."""
    return [name for name in RUNTIMES if installed_version(name)]


def check_one_runtime() -> None:
    """Raise BenexpError where two distributions of ONNX Runtime have overwritten each other's files."""
    found = installed_runtimes()
    if len(found) > 1:
        extra = "gpu" if any("gpu" in name for name in found) else "cpu"
        raise BenexpError(
            f"{' and '.join(found)} are installed together, but are one module and break each other: "
            f"pip uninstall -y {' '.join(found)} && pip install 'benexp[{extra}]'"
        )


def installed_version(distribution: str) -> str | None:
    """The version of a distribution, which is not imported; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def import_onnxruntime(what: str, extra: str = "cpu") -> Any:
    """The module, for `what` (in words). Raises BenexpError with the command to install it, or to remove the second."""
    check_one_runtime()
    try:
        import onnxruntime
    except ImportError as error:
        raise BenexpError(f"{what} needs {error.name}: pip install 'benexp[{extra}]'") from error
    return onnxruntime


def has_torch() -> bool:
    """True where torch can be imported, which takes seconds the first time."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
