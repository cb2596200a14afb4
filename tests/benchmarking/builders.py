"""What tests of benchmarks share: small products, backends that fail and wait, and the report."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from benexp.backends.null import NullBackend
from benexp.cli.app import main
from benexp.core.errors import BenexpError
from tests.products.builders import random_arrays, write_folder

HERE = "tests.benchmarking.builders"
FAST = ("task=benchmark", "model=demo", "offset=none", "chunking.stride=120")
FAILS, KILLS, WAITS = 1111, 2222, 3333
"""What B02 of a product is filled with, for the backends below to behave so."""


class Moody(NullBackend):
    """Behaves as B02 of its patches says; what fails once fails ever after, as engines on CUDA do."""

    _broken = False

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        mood = round(float(patches[0, 0].mean()))
        self._broken |= mood == FAILS
        if self._broken:
            raise RuntimeError("the engine\nstumbled")
        if mood == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == WAITS:
            time.sleep(60)
        return super()._infer(patches)


class StillBorn(NullBackend):
    """Ends its process as it is loaded."""

    def _open(self) -> None:
        os._exit(3)


class Missing(NullBackend):
    def _open(self) -> None:
        raise BenexpError("Missing needs wonders: pip install wonders")


def write(folder: Path, **moods: int | None) -> Path:
    """A folder of small products of these names."""
    for seed, (name, mood) in enumerate(moods.items()):
        arrays = random_arrays((120, 240), seed=seed)
        if mood is not None:
            arrays["B02"][:] = mood
        write_folder(folder / name, arrays=arrays)
    return folder


def start(products: Path, out: Path, *more: str, backend: str | None = None) -> int:
    own = (f"backend._target_={HERE}.{backend}",) if backend else ()
    return main([f"input_dir={products}", f"output_folder={out}", *FAST, "backend=null", *own, *more])


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def table(out: Path) -> list[dict[str, str]]:
    with (out / "benchmark_report.csv").open(newline="") as file:
        return list(csv.DictReader(file))
