"""What a run ran on: machine, interpreter, library versions, and the code's own revision."""

import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benexp import cores
from benexp.version import __version__

LIBRARIES = ("numpy", "rasterio", "torch", "timm", "configilm", "onnxruntime", "scikit-learn", "hydra-core")


def environment() -> dict[str, Any]:
    return {
        "benexp": __version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores.available(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: a process inherits the peak of the one that started it there.
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git_revision() -> str | None:
    """The commit of the checkout benexp runs from; None for an installed package."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(top), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return found.stdout.strip() or None
