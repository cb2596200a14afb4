"""The environment of a run: machine, interpreter, library versions, and the revision of the code."""

import functools
import hashlib
import os
import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil

from benexp.core import cores
from benexp.measure import nvml
from benexp.records.environment import Environment, GpuFacts
from benexp.version import __version__

LIBRARIES = (
    "numpy",
    "rasterio",
    "torch",
    "timm",
    "configilm",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "nncf",
    "tensorrt",
    "scikit-learn",
    "hydra-core",
)


def environment() -> Environment:
    """Facts that JSON can hold; a millisecond but for the first time, which takes some 20."""
    revision = _git_revision()
    return {
        "benexp": __version__,
        "git_revision": revision,
        "git_dirty": None if revision is None else revision.endswith("-dirty"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "os": _os(),
        "machine": _machine(),
        "processor": _processor(),
        "cores": cores.available(),
        "machine_cores": os.cpu_count(),
        "cpu_quota": cores.quota(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "memory_limit_gb": _memory_limit(Path("/")),
        "gpus": list(_gpus()),
        "gpu_driver": _gpu_driver(Path("/")),
        "libraries": dict(_libraries()),
    }


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: a process inherits the peak of the one that started it there.
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def _libraries() -> dict[str, str]:
    return {name: version for name in LIBRARIES if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _os() -> str | None:
    """The name of the distribution, which decides which wheels and libraries it takes."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:  # not Linux, or a bare container
        return None


def _machine() -> str:
    """Tells runs of one machine from those of another, and names neither."""
    identity = Path("/etc/machine-id")
    name = f"benexp {identity.read_text().strip() if identity.exists() else ''} {platform.node()}"
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        # Of the first core: the whole file takes long on machines with hundreds.
        with cpuinfo.open() as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor()


def _memory_limit(root: Path) -> float | None:
    """The GB that this process's control groups allow; None where they set no limit."""
    limits = [psutil.virtual_memory().total]
    for group in cores.groups(root):
        for file in (group / "memory.max", group / "memory/memory.limit_in_bytes"):
            if file.exists() and (text := file.read_text().strip()) != "max":
                limits.append(int(text))
    # Without a limit version 1 says 2 ** 63 or so.
    return round(min(limits) / 1e9, 1) if min(limits) < limits[0] else None


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that may still be taken: what the machine has free, or its control groups leave this process."""
    left = [psutil.virtual_memory().available]
    for group in cores.groups(root):
        # Caches of files are given up for programs, and do not count: version 2, then 1.
        for limit, counts, own in (
            (group / "memory.max", group / "memory.stat", "anon"),
            (group / "memory/memory.limit_in_bytes", group / "memory/memory.stat", "total_rss"),
        ):
            if limit.exists() and counts.exists() and (text := limit.read_text().strip()) != "max":
                used = re.search(rf"^{own} (\d+)$", counts.read_text(), re.MULTILINE)
                left.append(int(text) - (int(used[1]) if used else 0))
    return min(left)


def _gpu_driver(root: Path) -> str | None:
    """The version of NVIDIA's driver, as the kernel tells it, or NVML where there is no such file (in WSL)."""
    version = root / "proc/driver/nvidia/version"
    if version.exists():
        found = re.search(r"\s(\d+\.[\d.]+)\s", version.read_text())
        return found[1] if found else None
    return nvml.driver() if (root / "dev/dxg").exists() else None


@functools.cache
def _gpus() -> list[GpuFacts]:
    """NVIDIA's, with name, memory and power limit; without the package nvidia-ml-py with their names only."""
    # First of all whether there is a driver: importing the package takes 0.1 s.
    if _gpu_driver(Path("/")) is None:
        return []
    return [gpu.facts() for gpu in nvml.gpus()] or _named_gpus(Path("/"))


def _named_gpus(root: Path) -> list[GpuFacts]:
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    models = (re.search(r"^Model:\s*(.+?)\s*$", file.read_text(), re.MULTILINE) for file in files)
    return [{"name": found[1], "memory_gb": None, "power_limit_watts": None} for found in models if found]


@functools.cache
def _git_revision() -> str | None:
    """The commit of the checkout benexp runs from, as first asked; None for an installed package."""
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
