"""Products, what one process makes of them, and a scheduler with two workers, all on loopback."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp import classify
from tests.execution.troubles import ASKED, files, start, stop
from tests.products.builders import random_arrays, write_safe

SIZE = (360, 400)


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 72 patches in 12 chunks, at what ASKED says."""
    return write_safe(tmp_path_factory.mktemp("product"), arrays=random_arrays(SIZE, seed=0), size=SIZE, manifest="MD5")


@pytest.fixture(scope="session")
def alone(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What execution=local with one process makes of it."""
    out = tmp_path_factory.mktemp("alone")
    return files(out / classify(safe, out, *ASKED)["tile"])


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one with two workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("dask")
    with running(folder, workers=2) as address:
        yield address


class running:  # noqa: N801
    """A scheduler and so many workers, which have no nanny to start them anew."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._file = folder / "scheduler.json"
        self._folder = folder
        self._workers = workers

    def __enter__(self) -> str:
        common = ("--scheduler-file", str(self._file))
        self.scheduler = start("scheduler", *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.workers = [self.worker() for _ in range(self._workers)]
        end = time.monotonic() + 60
        while not self._file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        return str(json.loads(self._file.read_text())["address"])

    def worker(self, root: Path | None = None) -> object:
        common = ("--scheduler-file", str(self._file), "--local-directory", str(self._folder))
        rest = ("--no-dashboard", "--no-nanny", "--nthreads", "2", "--host", "127.0.0.1")
        return start("worker", *common, *rest, **({"root": root} if root else {}))

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            stop(process)
