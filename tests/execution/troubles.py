"""A backend whose worker gets into trouble, and the processes that such a worker lives in."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benexp.backends.base import Backend

ROOT = Path(__file__).parents[2]
TARGET = "tests.execution.troubles.Troubled"
ASKED = (
    *(f"backend._target_={TARGET}", "backend.batch_size=4", "model=demo", "model.weights=random"),
    *("chunking.chunk_size=120", "chunking.stride=40"),
)


class Troubled(Backend):
    """Answers by brightness; `folder` says what else happens: the first to find a file named so takes it, and suffers.

    `die` kills its process, `eat` takes memory until somebody does. Where `die-bright` lies, what is bright kills
    every process, where `slow-<pid>` lies, every batch of that process takes long. Each process leaves `batches-<pid>`
    and `opened-<pid>` with a line for each.
    """

    def __init__(self, *args: Any, folder: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._folder = Path(folder) if folder else None

    def _note(self, what: str) -> None:
        if self._folder:
            with (self._folder / f"{what}-{os.getpid()}").open("a") as file:
                file.write("x\n")

    def _open(self) -> None:
        self._note("opened")

    def _takes(self, what: str) -> bool:
        if self._folder is None:
            return False
        try:
            (self._folder / what).unlink()
        except FileNotFoundError:
            return (self._folder / f"{what}-always").exists()
        return True

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        self._note("batches")
        if self._takes("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._folder and patches.mean() > 20_000 and (self._folder / "die-bright").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if self._takes("eat"):
            eaten = []
            while True:
                eaten.append(np.ones(4_000_000))
                time.sleep(0.01)
        if self._folder and (self._folder / f"slow-{os.getpid()}").exists():
            time.sleep(0.3)
        if self._folder and (self._folder / "slow").exists():
            time.sleep(0.1)
        means = patches.mean((1, 2, 3))[:, None] / 5000 * np.linspace(0.2, 1, 19)
        return (means % 1).astype(np.float32)


def noted(folder: Path, what: str) -> dict[int, int]:
    """How often each process did it."""
    return {
        int(path.name.rpartition("-")[2]): len(path.read_text().splitlines()) for path in folder.glob(f"{what}-[0-9]*")
    }


def environment(root: Path = ROOT) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(ROOT))), "BENEXP_CORES": "1"}


def start(*command: str, root: Path = ROOT) -> subprocess.Popen[str]:
    """`dask scheduler ...` or `dask worker ...`, as another user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]],
        env=environment(root),
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def files(folder: Path) -> dict[str, bytes]:
    """What must not depend on where it was made."""
    differ = ("run.json", "viewer.html", "_grid.npz")
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.endswith(differ)
    }
