"""Products, what one process makes of them, and a scheduler with two workers, all on loopback."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from benexp import classify
from tests.execution.troubles import ASKED, ROOT, files, start
from tests.products.builders import random_arrays, write_safe

SIZE = (360, 400)


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 56 patches in 12 chunks, at what ASKED says, with a corner that has no data."""
    arrays = random_arrays(SIZE, seed=0)
    for array in arrays.values():
        side = len(array) // 4
        array[:side, :side] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=SIZE, manifest="MD5")


@pytest.fixture(scope="session")
def alone(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What execution=local with one process makes of it."""
    out = tmp_path_factory.mktemp("alone")
    return files(out / classify(safe, out, *ASKED)["tile"])


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where troubles are asked for, and noted."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


class Dask:
    """A scheduler and so many workers, which have no nanny to start them anew."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._count = workers
        self.address = ""

    def __enter__(self) -> Self:
        file = self._folder / "scheduler.json"
        command = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.scheduler = start("scheduler", *command)
        self.workers: list[subprocess.Popen[str]] = []
        for _ in range(self._count):
            self.work()
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]
        if self._count:
            from distributed import Client

            with Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(self._count, timeout=60)
        return self

    def work(self, root: Path = ROOT) -> None:
        """Start one more worker, with the benexp that lies in `root`."""
        folder = ("--scheduler-file", str(self._folder / "scheduler.json"), "--local-directory", str(self._folder))
        rest = ("--no-dashboard", "--no-nanny", "--nthreads", "2", "--host", "127.0.0.1")
        self.workers.append(start("worker", *folder, *rest, root=root))

    @property
    def asked(self) -> tuple[str, ...]:
        return "execution=dask", f"execution.address={self.address}", "execution.patience=60"

    def __exit__(self, *_: Any) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler with two workers, each a process of its own, for tests that leave them alive."""
    with Dask(tmp_path_factory.mktemp("dask"), workers=2) as made:
        yield made
