"""How many processor cores this process may really use."""

import math
import os
from pathlib import Path


def available() -> int:
    """Cores by affinity, cut down to the cgroup's CPU quota: engines that count the machine's cores start too many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup"))))


def _quota(cgroup: Path) -> int:
    """Whole cores of the quota in a cgroup's folder (version 2, then 1), rounded up; a large number without one."""
    try:
        if (version2 := cgroup / "cpu.max").exists():
            limit, period = version2.read_text().split()
        else:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
    except OSError:
        return 1 << 16
    return 1 << 16 if limit.strip() in ("max", "-1") else math.ceil(int(limit) / int(period))
