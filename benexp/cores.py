"""How many processor cores this process may really use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available() -> int:
    """Cores by affinity, cut down to the cgroup's CPU quota: engines that count the machine's cores start too many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(_quota(group) for group in _groups())]))


def _groups() -> Iterator[Path]:
    """The folders of this process's control groups, from its own to the root: each may set a quota."""
    root = Path("/sys/fs/cgroup")
    yield root
    own = Path("/proc/self/cgroup")
    for line in own.read_text().splitlines() if own.exists() else []:
        name = line.rpartition(":")[2].strip("/")
        while name:
            yield root / name
            name = name.rpartition("/")[0]


def _quota(group: Path) -> int:
    """Whole cores of the quota in a group's folder (version 2, then 1), rounded up; a large number without one."""
    try:
        if (version2 := group / "cpu.max").exists():
            limit, period = version2.read_text().split()
        else:
            limit = (group / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu" / "cpu.cfs_period_us").read_text()
    except OSError:
        return 1 << 16
    return 1 << 16 if limit.strip() in ("max", "-1") else math.ceil(int(limit) / int(period))
