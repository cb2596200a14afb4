"""A grid that is not whole yet: its chunks on disk, from which a run that was killed goes on."""

import hashlib
import io
import logging
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.core.window import Window
from benexp.mapping.grid import DAMAGED, Chunk, ProbabilityGrid, check_possible, check_unpacked, packed
from benexp.mapping.plausibility import Content

log = logging.getLogger("benexp")

PREFIX = ".chunks-"


class UnfinishedGrid:
    """The classified chunks of a grid, in a hidden folder inside `folder` until the grid is whole.

    `key` stands for all that their answers depend on. What was kept for another key is removed, and said to be.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder / f"{PREFIX}{key[:16]}"
        self.restored = 0
        """Chunks that were taken over."""
        if self._folder.is_symlink():
            raise BenexpError(f"{self._folder} is a link, to {self._folder.resolve()}: remove it")
        for other in sorted(set(folder.glob(f"{PREFIX}*")) - {self._folder}):
            log.warning("%s: configuration, input or benexp changed since the run that was interrupted: anew", folder)
            shutil.rmtree(other)

    def restore(self, grid: ProbabilityGrid, content: Content | None = None) -> npt.NDArray[np.bool_]:
        """Put the chunks that are kept into `grid`, and what they held into `content`; which patches they cover."""
        done = np.zeros(grid.patches.shape, bool)
        for path in sorted(self._folder.glob("*.npz")):
            try:
                if not path.is_file():
                    raise ValueError("it is no file")
                whole = path.read_bytes()
                if not path.stem.endswith(_digest(whole)):
                    raise ValueError("it is damaged")
                check_unpacked(io.BytesIO(whole), grid.patches)
                with np.load(io.BytesIO(whole), allow_pickle=False) as saved:
                    (top, bottom, left, right), window = saved["at"], Window(*map(int, saved["window"]))
                    probabilities, classified, tally = saved["probabilities"], saved["classified"], saved["tally"]
                    pixels = np.unpackbits(saved["valid"], axis=1, count=window.width).astype(bool)
                here = np.s_[top:bottom, left:right]
                check_possible(probabilities, classified, grid.probabilities[here].shape)
                if pixels.shape != window.shape or grid.valid[window.slices].shape != window.shape:
                    raise ValueError("it is of another tile")
                if content:
                    content.add(tally)
            except DAMAGED as error:
                log.warning("%s: %s: its patches are classified again", path, error)
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                continue
            grid.probabilities[here] = probabilities
            grid.classified[here] = classified
            grid.valid[window.slices] |= pixels
            done[here] = True
            self.restored += 1
        return done

    def keep(self, grid: ProbabilityGrid, chunk: Chunk, tally: npt.NDArray[np.int64]) -> None:
        """Save what `grid` holds of `chunk`, and the `tally` of its pixels, whole or not at all."""
        self._folder.mkdir(exist_ok=True)
        rows, cols, window = chunk.rows, chunk.cols, chunk.window
        whole = packed(
            at=np.array([rows.start, rows.stop, cols.start, cols.stop]),
            window=np.array([window.row, window.col, window.height, window.width]),
            probabilities=grid.probabilities[rows, cols],
            classified=grid.classified[rows, cols],
            valid=np.packbits(grid.valid[window.slices], axis=1),
            tally=tally,
        )
        path = self._folder / f"{rows.start}-{cols.start}-{_digest(whole)}.npz"
        # Not waited for until it is on the disk: one that a power cut tore is not what its name says.
        with replacing(path, durable=False) as temporary:
            temporary.write_bytes(whole)

    def remove(self) -> None:
        """The grid is whole, or not wanted."""
        shutil.rmtree(self._folder, ignore_errors=True)


def forget(folder: Path) -> None:
    """Remove whatever chunks are kept inside `folder`, where a whole grid is."""
    for left in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(left)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
