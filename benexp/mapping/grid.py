"""The positions of patches on a tile, the chunks that cover them, and the model's answers for all of them."""

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
"""The exceptions that reading a damaged .npz file may raise."""
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
    wanted: npt.NDArray[np.bool_]
    """[n]: the patches to classify; the answers for the others are known already."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns of patches."""
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

    def touching(self, window: Window) -> tuple[slice, slice]:
        """Index ranges of the rows and columns of patches that touch a window.

        >>> PatchGrid((10, 10), patch_size=4, stride=3).touching(Window(4, 8, 2, 1))
        (slice(1, 2, None), slice(2, 3, None))
        """
        return (
            reaching(self.rows, self.patch_size, window.row, window.row + window.height),
            reaching(self.cols, self.patch_size, window.col, window.col + window.width),
        )

    def count(self, window: Window) -> int:
        """The number of patches that touch a window."""
        rows, cols = self.touching(window)
        return int((rows.stop - rows.start) * (cols.stop - cols.start))

    def chunks(self, chunk_size: int, wanted: npt.NDArray[np.bool_] | None = None) -> list[Chunk]:
        """The tile cut into squares of `chunk_size`; a chunk owns the patches whose origin lies in its square.

        With `wanted` [rows, cols], only what chunks hold of these patches: the smallest rectangle around them in each.
        """
        if chunk_size < self.patch_size:
            raise BenexpError(
                f"chunking.chunk_size={chunk_size}: takes at least chunking.patch_size={self.patch_size}, "
                "or every pixel would be read many times over"
            )
        if wanted is None:
            wanted = np.ones(self.shape, bool)
        chunks = []
        for rows in _runs(self.rows, chunk_size):
            for cols in _runs(self.cols, chunk_size):
                in_rows, in_cols = (np.flatnonzero(wanted[rows, cols].any(axis)) for axis in (1, 0))
                if in_rows.size:
                    rows_ = slice(rows.start + int(in_rows[0]), rows.start + int(in_rows[-1]) + 1)
                    cols_ = slice(cols.start + int(in_cols[0]), cols.start + int(in_cols[-1]) + 1)
                    chunks.append(self.chunk(rows_, cols_, wanted[rows_, cols_].ravel()))
        return chunks

    def chunk(self, rows: slice, cols: slice, wanted: npt.NDArray[np.bool_]) -> Chunk:
        """The chunk of these rows and columns of patches, of which those `wanted` [n] are to be classified."""
        tops, lefts = self.rows[rows], self.cols[cols]
        top, left = int(tops[0]), int(lefts[0])
        window = Window(top, left, int(tops[-1]) + self.patch_size - top, int(lefts[-1]) + self.patch_size - left)
        origins = np.stack(np.meshgrid(tops - top, lefts - left, indexing="ij"), axis=-1).reshape(-1, 2)
        return Chunk(rows, cols, window, origins, wanted)


def reaching(origins: npt.NDArray[np.int64], size: int, start: int, stop: int) -> slice:
    """Index range of the sorted `origins` whose `size` pixels reach into pixels [start, stop)."""
    first, end = np.searchsorted(origins, start - size, side="right"), np.searchsorted(origins, stop, side="left")
    return slice(int(first), int(end))


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


@dataclass(frozen=True)
class Answers:
    """The model's answers for the patches of one chunk, its valid pixels, and their tally."""

    probabilities: npt.NDArray[np.float32]
    """[rows, cols, classes]: 0 where a patch was skipped."""
    classified: npt.NDArray[np.bool_]
    """[rows, cols]."""
    valid: npt.NDArray[np.bool_]
    """[h, w] of the chunk's window."""
    tally: npt.NDArray[np.int64]
    """See plausibility.tally."""


def packed(**arrays: npt.NDArray[Any]) -> bytes:
    """The content of an .npz file: zipfile, writing to a disk that is full, would tell of it again, too late."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def check_unpacked(file: Path | BinaryIO, patches: PatchGrid) -> None:
    """Raise ValueError where an .npz file would unpack to more than a grid of these `patches`, or a part of it, has."""
    (rows, cols), (height, width) = patches.shape, patches.tile_shape
    most = _ABOUT + _PER_PATCH * rows * cols + 2 * height * width
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"it unpacks to {size} bytes")


NOT_ASKED, SKIPPED, CLASSIFIED = range(3)
"""States of a patch: nobody asked for it yet; too few of its pixels are valid; it has an answer."""
NOT_READ, INVALID, VALID = range(3)
"""States of a pixel."""


@dataclass
class ProbabilityGrid:
    """The model's answers for a tile, as far as they were asked for: all that rendering needs.

    `probabilities` [rows, cols, classes] are 0 where a patch has no answer, `patch_states` [rows, cols] and
    `pixel_states` [h, w] are numbers of the constants above, `tally` [bands, n] sums up the pixels read (see
    plausibility.py).
    """

    patches: PatchGrid
    probabilities: npt.NDArray[np.float32]
    patch_states: npt.NDArray[np.uint8]
    pixel_states: npt.NDArray[np.uint8]
    tally: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, patches: PatchGrid, classes: int, tally: npt.NDArray[np.int64] | None = None) -> Self:
        return cls(
            patches,
            np.zeros((*patches.shape, classes), np.float32),
            np.zeros(patches.shape, np.uint8),
            # Pages of memory are taken only where pixels are read.
            np.zeros(patches.tile_shape, np.uint8),
            np.zeros((0, 0), np.int64) if tally is None else tally,
        )

    @property
    def classified(self) -> npt.NDArray[np.bool_]:
        """[rows, cols]: the patches that have an answer."""
        return np.asarray(self.patch_states == CLASSIFIED)

    def valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """[h, w]: the valid pixels of a window; none where it was not read."""
        return np.asarray(self.pixel_states[window.slices] == VALID)

    def missing(self, window: Window) -> npt.NDArray[np.bool_]:
        """[rows, cols]: the patches that touch a window and were not asked for yet."""
        found = np.zeros(self.patches.shape, bool)
        touching = self.patches.touching(window)
        found[touching] = self.patch_states[touching] == NOT_ASKED
        return found

    def add(self, chunk: Chunk, answers: Answers) -> None:
        """Take in the answers for the wanted patches of a chunk."""
        wanted = chunk.wanted.reshape(chunk.shape)
        here = (chunk.rows, chunk.cols)
        self.probabilities[here][wanted] = answers.probabilities[wanted]
        self.patch_states[here][wanted] = np.where(answers.classified, CLASSIFIED, SKIPPED)[wanted]
        self.pixel_states[chunk.window.slices] = np.where(answers.valid, VALID, INVALID)
        self.tally = add_tallies(self.tally, answers.tally)

    def merge(self, other: Self) -> None:
        """Take in the answers of another grid of the same tile and question."""
        new = (self.patch_states == NOT_ASKED) & (other.patch_states != NOT_ASKED)
        self.probabilities[new] = other.probabilities[new]
        self.patch_states[new] = other.patch_states[new]
        np.maximum(self.pixel_states, other.pixel_states, out=self.pixel_states)
        self.tally = add_tallies(self.tally, other.tally)

    def save(self, path: Path, origin: GridOrigin) -> None:
        """Write it whole or not at all, with its origin, whose key decides what it may be reused for."""
        with replacing(path) as temporary:
            temporary.write_bytes(
                packed(
                    about=np.array(json.dumps(asdict(origin))),
                    probabilities=self.probabilities,
                    patch_states=self.patch_states,
                    read=np.packbits(self.pixel_states != NOT_READ, axis=1),
                    valid=np.packbits(self.pixel_states == VALID, axis=1),
                    tally=self.tally,
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
                width = patches.tile_shape[1]
                read, valid = (np.unpackbits(saved[name], axis=1, count=width) for name in ("read", "valid"))
                grid = cls(patches, saved["probabilities"], saved["patch_states"], read + valid, saved["tally"])
            check_possible(grid.probabilities, grid.patch_states, (*patches.shape, classes))
            if grid.pixel_states.shape != patches.tile_shape or (valid > read).any():
                raise ValueError("it is of another tile")
        except DAMAGED as error:
            raise BenexpError(f"{path}: not a probability grid ({error}): delete it or say resume=false") from error
        return grid, origin


def origin_of(path: Path) -> GridOrigin | None:
    """The origin of the grid saved at `path`, which is not checked any further; None where there is none."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return msgspec.convert(json.loads(str(saved["about"])), GridOrigin)
    except DAMAGED:
        return None


def add_tallies(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum of two tallies [bands, n], but for the lowest and the highest DN; one without bands is empty."""
    if not first.size or not second.size:
        return second if second.size else first
    total = first + second
    total[:, 0] = np.minimum(first[:, 0], second[:, 0])
    total[:, 1] = np.maximum(first[:, 1], second[:, 1])
    return total


def check_possible(probabilities: npt.NDArray[Any], states: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise ValueError where arrays from a file cannot be a model's answers of `shape` [rows, cols, classes]."""
    if probabilities.dtype != np.float32 or states.dtype != np.uint8 or states.max(initial=0) > CLASSIFIED:
        raise ValueError("it holds numbers of another kind")
    if probabilities.shape != shape or states.shape != shape[:2]:
        raise ValueError("it is of another grid or model")
    # Written so that NaN fails too.
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("it holds what are no probabilities")
