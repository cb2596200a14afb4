"""A grid that is not whole yet: its chunks on disk, from which a run that was killed goes on."""

import hashlib
import io
import logging
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benexp.errors import BenexpError
from benexp.files import replacing
from benexp.grid import DAMAGED, Chunk, ProbabilityGrid, check_unpacked, packed
from benexp.plausibility import Content

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
            whole = path.read_bytes()
            try:
                if not path.stem.endswith(_digest(whole)):
                    raise ValueError("it is damaged")
                check_unpacked(io.BytesIO(whole), grid.patches)
                with np.load(io.BytesIO(whole), allow_pickle=False) as saved:
                    (top, bottom, left, right), window = saved["at"], saved["window"]
                    probabilities, classified, valid = saved["probabilities"], saved["classified"], saved["valid"]
                    tally = saved["tally"]
                here = grid.classified[top:bottom, left:right].shape
                if probabilities.shape[:2] != here or classified.shape != here:
                    raise ValueError("it is of another grid")
            except DAMAGED as error:
                log.warning("%s: %s: its patches are classified again", path, error)
                path.unlink()
                continue
            grid.probabilities[top:bottom, left:right] = probabilities
            grid.classified[top:bottom, left:right] = classified
            row, col, height, width = window
            pixels = np.unpackbits(valid, axis=1, count=width).astype(bool)
            grid.valid[row : row + height, col : col + width] |= pixels
            if content:
                content.add(tally)
            done[top:bottom, left:right] = True
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
