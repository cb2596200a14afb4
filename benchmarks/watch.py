"""A running benexp and its processes: what it says, how many tiles have ended, memory and open files by then."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

INTERVAL = 0.05
"""Seconds between samples."""


@dataclass(frozen=True)
class MemorySample:
    """So many tiles had ended, with these megabytes resident and files open."""

    ended: int
    main_mb: float
    main_files: int
    all_mb: float
    all_files: int


class Watched:
    """`benexp ARGUMENTS`, from its start to its end; the lists fill meanwhile."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.samples: list[MemorySample] = []
        self.ended = 0
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benexp", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TQDM_DISABLE": "1"},
        )
        assert self._process.stdout
        assert self._process.stderr
        self._threads = [
            threading.Thread(target=self._listen, args=(stream, self._hear))
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, stream: IO[str], hear: Callable[[str], None]) -> None:
        for line in stream:
            self._log.write(line)
            hear(line)

    def _hear(self, line: str) -> None:
        for level, heard in (("error", self.errors), ("warning", self.warnings)):
            if line.startswith(f"benexp: {level}: "):
                heard.append(line.removeprefix(f"benexp: {level}: ").strip())
        if line.lstrip().startswith("written to ") or ": error: " in line:
            self.ended += 1

    def workers(self) -> list[psutil.Process]:
        """Those processes that classify."""
        return [child for child in self._children() if "spawn_main" in " ".join(_command(child))]

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def run(self, meanwhile: Callable[[], None]) -> int:
        """Call `meanwhile` again and again until it ends; its exit code."""
        main = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            used = [found for process in (main, *self._children()) if (found := _used(process))]
            if used:
                totals = [sum(column) for column in zip(*used, strict=True)]
                self.samples.append(MemorySample(self.ended, *used[0], totals[0], int(totals[1])))
            meanwhile()
            time.sleep(INTERVAL)
        for thread in self._threads:
            thread.join()
        self._log.close()
        return self._process.returncode


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _used(process: psutil.Process) -> tuple[float, int] | None:
    try:
        return process.memory_info().rss / 1e6, process.num_fds()
    except psutil.Error:
        return None


@dataclass(frozen=True)
class Growth:
    """The most of something over the tiles before an early one, and before the last one."""

    what: str
    early: float
    late: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.late <= self.early + self.allowed


COLUMNS = {
    "main_mb": "MB of the main process",
    "main_files": "open files of the main process",
    "all_mb": "MB of all processes",
    "all_files": "open files of all processes",
}


def growth(run: Watched, early: int, late: int) -> list[Growth]:
    """How what `run` used had grown between the ten tiles that ended before `early`, and before `late`.

    A tenth more megabytes and two files more are allowed: allocators and garbage collectors take their time.
    """

    def most(column: str, at: int) -> float:
        return max(float(getattr(sample, column)) for sample in run.samples if at - 10 <= sample.ended < at)

    found = []
    for column, what in COLUMNS.items():
        before, after = most(column, early), most(column, late)
        found.append(Growth(what, before, after, before / 10 if "mb" in column else 2))
    return found
