"""Running whole commands in processes of their own: wall time, processor time and peak memory of each."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """One finished process."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def measure(command: Sequence[str], log: Path) -> Measured:
    """Run a command to its end; its output goes to `log`. Raises RuntimeError where it fails."""
    started = time.perf_counter()
    with log.open("w") as out:
        pid = os.posix_spawn(
            command[0],
            list(command),
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)],
        )
        _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text()}")
    # Linux counts kilobytes. The peak is of this process and its threads; none of our commands starts others.
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9)


def write_product(folder: Path, size: int, seed: int) -> Path:
    """A made-up product, written by another process: a child's peak memory is at least what its parent's ever was."""
    command = [sys.executable, "-m", "benexp.demo", str(folder), "--size", str(size), "--seed", str(seed)]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0])


def interleaved(commands: dict[str, Sequence[str]], repeats: int, logs: Path) -> dict[str, list[Measured]]:
    """Each command in turn, `repeats` times over, so that a machine that drifts drifts for all of them."""
    results: dict[str, list[Measured]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for name, command in commands.items():
            measured = measure(command, logs / f"{name}-{repeat}.log")
            results[name].append(measured)
            print(
                f"  {name} {repeat + 1}/{repeats}: {measured.wall_s:.1f} s, {measured.peak_gb:.2f} GB", file=sys.stderr
            )
    return results


def medians(runs: Sequence[Measured]) -> Measured:
    return Measured(*(statistics.median(getattr(run, name) for run in runs) for name in ("wall_s", "cpu_s", "peak_gb")))
