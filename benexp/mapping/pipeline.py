"""One tile: the two stages that meet in the probability grid, and the order of things inside them."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benexp.backends.base import Backend
from benexp.backends.batching import PatchQueue
from benexp.backends.patches import StagedChunk
from benexp.core.clocks import StageClocks
from benexp.core.progress import progress
from benexp.core.window import Window
from benexp.mapping import layers as layers_module
from benexp.mapping.blending import blend, window_weights
from benexp.mapping.cog import BLOCK
from benexp.mapping.grid import Answers, Chunk, ProbabilityGrid, valid_share
from benexp.mapping.layers import Layer
from benexp.mapping.plausibility import tally
from benexp.mapping.resume import KeptChunks

THUMBNAIL = 1024
"""Pixels along the longer side of a reduced map at most."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Readable(Protocol):
    """The interface that the pipeline needs of a tile."""

    shape: tuple[int, int]

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]: ...


class Writer(Protocol):
    """The interface that the pipeline needs of an output raster."""

    layer: Layer

    def write(self, values: npt.NDArray[Any], window: Window) -> None: ...


Answered = Generator[tuple[Chunk, Answers], None, None]


def classify(
    tile: Readable,
    backend: Backend,
    grid: ProbabilityGrid,
    area: Window,
    *,
    chunk_size: int,
    min_valid: float,
    clocks: StageClocks,
    kept: KeptChunks | None = None,
) -> None:
    """Classify the patches of a tile that touch `area` and that `grid` was not asked for; it takes in the answers.

    The next chunk is read while the backend works on this one. What does not fill a batch waits for the next chunk, so
    that only the last batch is padded. Chunks that `kept` has are taken from it, the others are kept in it as they
    come; see `gather`.
    """
    patches = grid.patches

    def read(chunk: Chunk) -> tuple[StagedChunk, npt.NDArray[np.int64]]:
        with clocks.stage("read"):
            pixels, valid = tile.read(chunk.window)
            # On its way to the engine's device while that works on the chunk before.
            return backend.stage(pixels, valid), tally(pixels, valid)

    def answered(chunks: Sequence[Chunk]) -> Answered:
        # Of all patches, so that a run that goes on from another has its batches.
        backend.fit(patches.count(area))
        queue = PatchQueue(backend)
        waiting: deque[tuple[Chunk, npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]] = deque()

        def whole(done: Sequence[npt.NDArray[np.float32]]) -> Answered:
            for answers in done:
                chunk, usable, valid, counts = waiting.popleft()
                yield chunk, Answers(*placed(answers, usable, chunk), valid, counts)

        with ThreadPoolExecutor(1, "read-ahead") as reader:
            for chunk, (staged, counts) in zip(chunks, in_order(reader, read, chunks), strict=True):
                with clocks.stage("infer"):
                    usable = usable_patches(staged.valid, chunk, patches.patch_size, min_valid)
                    waiting.append((chunk, usable, staged.valid, counts))
                    done = queue.put((staged, chunk.origins[usable]))
                yield from whole(done)
            with clocks.stage("infer"):
                done = queue.finish()
            yield from whole(done)

    gather(answered, grid, area, chunk_size=chunk_size, clocks=clocks, kept=kept)


def classify_chunk(
    backend: Backend,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    chunk: Chunk,
    patch_size: int,
    min_valid: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Probabilities of the wanted patches, and which have them, of a chunk of `pixels` [bands, h, w]."""
    usable = usable_patches(valid, chunk, patch_size, min_valid)
    return placed(backend.classify(pixels, valid, chunk.origins[usable]), usable, chunk)


def usable_patches(
    valid: npt.NDArray[np.bool_], chunk: Chunk, patch_size: int, min_valid: float
) -> npt.NDArray[np.bool_]:
    """[n]: the wanted patches of a chunk of which enough is `valid` [h, w]."""
    return np.asarray(chunk.wanted & (valid_share(valid, chunk.origins, patch_size) >= min_valid))


def placed(
    answers: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], chunk: Chunk
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """`answers` [n, classes] of the `usable` patches of a chunk, and these, in its rows and columns."""
    probabilities = np.zeros((len(usable), answers.shape[1]), np.float32)
    probabilities[usable] = answers
    return probabilities.reshape(*chunk.shape, -1), usable.reshape(chunk.shape)


def gather(
    answered: Callable[[Sequence[Chunk]], Answered],
    grid: ProbabilityGrid,
    area: Window,
    *,
    chunk_size: int,
    clocks: StageClocks,
    kept: KeptChunks | None = None,
) -> None:
    """Fill in what `grid` misses of `area`: from the chunks that `kept` has, else by what is `answered`, in any order.

    `kept` keeps the chunks that are answered.
    """
    asked = int(grid.missing(area).sum())
    for chunk, answers in kept.restore() if kept else ():
        grid.add(chunk, answers)
    missing = grid.missing(area)
    left = int(missing.sum())
    with (
        progress(initial=asked - left, total=asked, desc="classify", unit="patch") as bar,
        closing(answered(grid.patches.chunks(chunk_size, missing))) as coming,
    ):
        for chunk, answers in coming:
            grid.add(chunk, answers)
            if kept:
                with clocks.stage("write"):
                    kept.keep(chunk, answers)
            bar.update(int(chunk.wanted.sum()))


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], ahead: int = 1
) -> Generator[Result, None, None]:
    """The results in order, with `ahead` of them under way while the caller works on one."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def blockwise(
    shape: tuple[int, int], area: Window, work: Callable[[Window], Result], threads: int, what: str
) -> Iterator[Iterator[tuple[Window, Result]]]:
    """The blocks of a tile of `shape` that touch `area`, row by row, each with its result of `work`, made in threads.

    Blocks lie on the tile's lattice and are whole, so that the last bit of a pixel does not depend on the area.
    """
    height, width = shape
    blocks = [
        Window(row, col, min(BLOCK, height - row), min(BLOCK, width - col))
        for row in range(area.row // BLOCK * BLOCK, area.row + area.height, BLOCK)
        for col in range(area.col // BLOCK * BLOCK, area.col + area.width, BLOCK)
    ]
    # Blocks run beside each other, so the matrix products inside them must not start threads of their own.
    with ThreadPoolExecutor(threads, what) as pool, threadpool_limits(1, user_api="blas"):
        results = in_order(pool, work, blocks, ahead=2 * threads)
        yield zip(progress(blocks, desc=what, unit="block"), results, strict=True)


def thumbnail_step(shape: tuple[int, int], size: int) -> int:
    """Every how many pixels of a tile of `shape` a reduced map has one, so that it is no longer than `size`."""
    return -(-max(shape) // size)


@dataclass
class Rendered:
    """The pixel counts, the hash and the thumbnail of a rendered class map."""

    pixels: npt.NDArray[np.int64]
    """[classes]: how many pixels have each class."""
    map_hash: str
    """sha256 of the map's shape and pixels."""
    thumbnail: npt.NDArray[np.uint8]
    """Every n-th pixel of the class map, so that its longer side stays under the size asked for."""


def render(
    grid: ProbabilityGrid,
    area: Window,
    writers: Sequence[Writer],
    class_names: tuple[str, ...],
    *,
    blend_shape: str,
    clocks: StageClocks,
    threads: int,
    thumbnail_size: int = THUMBNAIL,
) -> Rendered:
    """Make pixels of an area of the grid, block by block, for the writers, of which one must be the class layer's.

    Windows that writers get begin at the area's first pixel.
    """
    height, width = area.shape
    window = window_weights(grid.patches.patch_size, blend_shape)
    pixels = np.zeros(len(class_names) + 1, np.int64)
    step = thumbnail_step((height, width), thumbnail_size)
    thumbnail = np.empty((-(-height // step), -(-width // step)), np.uint8)
    hashed = hashlib.sha256(f"{height}x{width}".encode())
    class_index = next(i for i, writer in enumerate(writers) if writer.layer.name == "class")

    def work(block: Window) -> list[npt.NDArray[Any]]:
        with clocks.stage("blend"):
            inside = block.intersection(area).relative_to(block).slices
            probabilities, valid = blend(grid, window, block)
            # All layers see the same array: one that changed it would spoil the next.
            probabilities.flags.writeable = False
            # Whole blocks, too: the last bit of a logarithm depends on the length of the array.
            made = (layers_module.apply(writer.layer, probabilities, class_names, valid) for writer in writers)
            return [values[..., *inside] for values in made]

    with blockwise(grid.patches.tile_shape, area, work, threads, "render") as results:
        strip = np.empty((BLOCK, width), np.uint8)
        for whole, values in results:
            block = whole.intersection(area).relative_to(area)
            with clocks.stage("write"):
                for writer, array in zip(writers, values, strict=True):
                    writer.write(array, block)
            classes = values[class_index][0]
            strip[: block.height, block.col : block.col + block.width] = classes
            pixels += np.bincount(np.minimum(classes, len(class_names)).ravel(), minlength=len(pixels))
            if block.col + block.width == width:
                hashed.update(strip[: block.height].tobytes())
                first = -block.row % step
                rows = strip[first : block.height : step, ::step]
                at = (block.row + first) // step
                thumbnail[at : at + len(rows)] = rows
    return Rendered(pixels[:-1], hashed.hexdigest(), thumbnail)
