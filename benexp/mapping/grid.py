"""Where patches lie on a tile, the chunks that cover them, and the model's answers for all of them."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.core.window import Window
from benexp.records.run import GridOrigin

DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, msgspec.ValidationError),
)
"""What reading an .npz file raises when its bytes are not those that were saved."""
_ABOUT = 1 << 20
# Bytes of what a file says of itself.
_PER_PATCH = 1024
# Bytes of a patch: far more classes than there are.


def positions(length: int, patch_size: int, stride: int) -> npt.NDArray[np.int64]:
    """Patch origins along an axis of `length` pixels: 0, stride, 2 stride, ... and a last one clamped to the edge.

    >>> positions(10, patch_size=4, stride=4).tolist()
    [0, 4, 6]
    """
    last = length - patch_size
    origins = np.arange(0, last + 1, stride)
    return origins if origins[-1] == last else np.append(origins, last)


@dataclass(frozen=True)
class Chunk:
    """Patches that are read and classified at once: `rows` and `cols` index the grid, `window` is the union of them."""

    rows: slice
    cols: slice
    window: Window
    origins: npt.NDArray[np.int64]
    """[n, 2]: (row, col) of each patch's upper left pixel in the window, in the row-major order of the grid."""

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns of patches there are."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


@dataclass(frozen=True)
class PatchGrid:
    """One grid of patches over a whole tile of `tile_shape` pixels; no chunk size ever moves a patch.

    Raises BenexpError where the tile is smaller than a patch, or where patches would leave gaps.
    """

    tile_shape: tuple[int, int]
    patch_size: int
    stride: int

    def __post_init__(self) -> None:
        height, width = self.tile_shape
        if min(height, width) < self.patch_size:
            raise BenexpError(
                f"the tile is {width} x {height} pixels at 10 m, smaller than one patch of "
                f"{self.patch_size} x {self.patch_size}: nothing can be classified"
            )
        if not 1 <= self.stride <= self.patch_size:
            raise BenexpError(
                f"chunking.stride={self.stride}: takes 1 to chunking.patch_size={self.patch_size}, "
                "or pixels between the patches would get no class"
            )

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        return positions(self.tile_shape[0], self.patch_size, self.stride)

    @cached_property
    def cols(self) -> npt.NDArray[np.int64]:
        return positions(self.tile_shape[1], self.patch_size, self.stride)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    def chunks(self, chunk_size: int) -> list[Chunk]:
        """The tile cut into squares of `chunk_size`; a chunk owns the patches whose origin lies in its square."""
        if chunk_size < self.patch_size:
            raise BenexpError(
                f"chunking.chunk_size={chunk_size}: takes at least chunking.patch_size={self.patch_size}, "
                "or every pixel would be read many times over"
            )
        return [
            self._chunk(rows, cols) for rows in _runs(self.rows, chunk_size) for cols in _runs(self.cols, chunk_size)
        ]

    def _chunk(self, rows: slice, cols: slice) -> Chunk:
        tops, lefts = self.rows[rows], self.cols[cols]
        top, left = int(tops[0]), int(lefts[0])
        window = Window(top, left, int(tops[-1]) + self.patch_size - top, int(lefts[-1]) + self.patch_size - left)
        origins = np.stack(np.meshgrid(tops - top, lefts - left, indexing="ij"), axis=-1).reshape(-1, 2)
        return Chunk(rows, cols, window, origins)


def _runs(origins: npt.NDArray[np.int64], chunk_size: int) -> Iterator[slice]:
    """Index ranges of the sorted `origins` that share a square."""
    starts = np.flatnonzero(np.diff(origins // chunk_size, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(origins)], strict=True):
        yield slice(int(start), int(stop))


def valid_share(
    valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64], patch_size: int
) -> npt.NDArray[np.float64]:
    """The share [n] of valid pixels in each patch of a chunk, by an integral image."""
    sums = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(valid, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
    top, left = origins.T
    bottom, right = top + patch_size, left + patch_size
    counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(counts / patch_size**2)


def packed(**arrays: npt.NDArray[Any]) -> bytes:
    """The content of an .npz file: zipfile, writing to a disk that is full, would tell of it again, too late."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def check_unpacked(file: Path | BinaryIO, patches: PatchGrid) -> None:
    """Raise ValueError where an .npz file would unpack to more than a grid of these `patches`, or a part of it, has."""
    most = _ABOUT + _PER_PATCH * len(patches.rows) * len(patches.cols) + patches.tile_shape[0] * patches.tile_shape[1]
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"it unpacks to {size} bytes")


@dataclass
class ProbabilityGrid:
    """The model's answers for a tile: all that rendering needs.

    `probabilities` [rows, cols, classes] hold 0 where a patch was skipped, `classified` [rows, cols] tells which were
    not, `valid` [h, w] marks the usable pixels of the tile.
    """

    patches: PatchGrid
    probabilities: npt.NDArray[np.float32]
    classified: npt.NDArray[np.bool_]
    valid: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, patches: PatchGrid, classes: int) -> Self:
        return cls(
            patches,
            np.zeros((*patches.shape, classes), np.float32),
            np.zeros(patches.shape, bool),
            np.zeros(patches.tile_shape, bool),
        )

    def save(self, path: Path, origin: GridOrigin) -> None:
        """Write it whole or not at all, with its origin, whose key decides what it may be reused for."""
        with replacing(path) as temporary:
            temporary.write_bytes(
                packed(
                    about=np.array(json.dumps(asdict(origin))),
                    probabilities=self.probabilities,
                    classified=self.classified,
                    valid=np.packbits(self.valid, axis=1),
                )
            )

    @classmethod
    def load(cls, path: Path, key: str, patches: PatchGrid, classes: int) -> tuple[Self, GridOrigin] | None:
        """The grid saved at `path` and its origin, if its key is this one; None where there is none such.

        Raises BenexpError where the file is no grid of these `patches` and so many `classes`.
        """
        if not path.is_file():
            return None
        try:
            check_unpacked(path, patches)
            with np.load(path, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                if about["grid_key"] != key:
                    return None
                origin = msgspec.convert(about, GridOrigin)
                valid = np.unpackbits(saved["valid"], axis=1, count=patches.tile_shape[1]).astype(bool)
                grid = cls(patches, saved["probabilities"], saved["classified"], valid)
            check_possible(grid.probabilities, grid.classified, (*patches.shape, classes))
            if valid.shape != patches.tile_shape:
                raise ValueError("it is of another tile")
        except DAMAGED as error:
            raise BenexpError(f"{path}: not a probability grid ({error}): delete it or say resume=false") from error
        return grid, origin


def check_possible(probabilities: npt.NDArray[Any], classified: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise ValueError where arrays from a file cannot be a model's answers of `shape` [rows, cols, classes]."""
    if probabilities.dtype != np.float32 or classified.dtype != bool:
        raise ValueError("it holds numbers of another kind")
    if probabilities.shape != shape or classified.shape != shape[:2]:
        raise ValueError("it is of another grid or model")
    # Written so that NaN fails too.
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("it holds what are no probabilities")
