"""The number of processor cores that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

SHARE = "BENEXP_CORES"
"""The environment variable with the number of cores for a process, where several share a machine."""


def available() -> int:
    """The cores of the affinity mask, limited by the cgroup's CPU quota and BENEXP_CORES.

    Engines count the machine's cores instead, and start too many threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, share = quota(), os.environ.get(SHARE, "")
    cores = cores if limit is None else max(1, min(cores, math.ceil(limit)))
    return max(1, min(cores, int(share))) if share.isdecimal() else cores


def quota(root: Path = Path("/")) -> float | None:
    """The CPU quota of this process's control groups in cores, such as 1.5; None where they set no limit."""
    return min((limit for group in groups(root) if (limit := _quota(group)) is not None), default=None)


def groups(root: Path = Path("/")) -> Iterator[Path]:
    """The folders of this process's control groups, from its own to the root: each may set a quota."""
    top = root / "sys/fs/cgroup"
    yield top
    own = root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.exists() else []:
        name = line.rpartition(":")[2].strip("/")
        while name:
            yield top / name
            name = name.rpartition("/")[0]


def _quota(group: Path) -> float | None:
    """The quota in a group's folder (version 2, then 1), in cores."""
    try:
        if (version2 := group / "cpu.max").exists():
            limit, period = version2.read_text().split()
        else:
            limit = (group / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu" / "cpu.cfs_period_us").read_text()
    except OSError:
        return None
    return None if limit.strip() in ("max", "-1") else int(limit) / int(period)
