"""What tests of runs share."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio

from benexp.backends.base import Backend
from benexp.core.window import Window

FAST = ("model=demo", "chunking.chunk_size=200")

HERE = "tests.tasks.runs"
COUNTING = (f"backend._target_={HERE}.Counting", "backend.batch_size=4")


class Counting(Backend):
    """Answers a mixture of classes by brightness, the same in every batch."""

    precisions = ("fp32", "bf16")
    divisor: ClassVar[float] = 500
    """The scale of the answers; another model has another one."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        # Sums of whole numbers in float64 are exact, in whichever order they are added.
        means = patches.sum((1, 2, 3), dtype=np.float64)[:, None] / patches[0].size / self.divisor
        return (means * np.linspace(0.2, 1, 19) % 1).astype(np.float32)


def files_below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def folder_of(out: Path, record: Any) -> Path:
    """The folder of a record's results."""
    return out / str(record["folder"])


def rasters(folder: Path) -> dict[str, np.ndarray]:
    """The pixels [bands, h, w] of all GeoTIFFs of a folder, by their names."""
    found = {}
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as raster:
            found[path.name] = raster.read()
    return found


def assert_cut_out(part: dict[str, np.ndarray], whole: dict[str, np.ndarray], window: Window) -> None:
    """Every layer of a region is the part of that of the whole, bit for bit."""
    assert part.keys() == whole.keys() and part
    for name, values in part.items():
        cut = whole[name][:, *window.slices]
        assert values.dtype == cut.dtype and values.shape == cut.shape, name
        assert values.tobytes() == cut.tobytes(), name


def hash_of(classes: np.ndarray) -> str:
    """The `map_hash` of a class map [h, w]."""
    height, width = classes.shape
    return hashlib.sha256(f"{height}x{width}".encode() + classes.tobytes()).hexdigest()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The bytes of all files below a folder, and when they were last written to."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
