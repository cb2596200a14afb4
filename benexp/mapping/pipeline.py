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
from benexp.mapping.grid import Chunk, PatchGrid, ProbabilityGrid, valid_share
from benexp.mapping.layers import Layer
from benexp.mapping.plausibility import Content, tally
from benexp.mapping.resume import UnfinishedGrid

THUMBNAIL = 1024
"""Pixels along the longer side of a reduced map at most."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Readable(Protocol):
    """What the pipeline needs of a tile."""

    shape: tuple[int, int]

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]: ...


class Writer(Protocol):
    """What the pipeline needs of an output raster."""

    layer: Layer

    def write(self, values: npt.NDArray[Any], window: Window) -> None: ...


@dataclass(frozen=True)
class Answers:
    """What the model says of the patches of one chunk, which of its pixels are usable, and what they hold."""

    probabilities: npt.NDArray[np.float32]
    """[rows, cols, classes]: 0 where a patch was skipped."""
    classified: npt.NDArray[np.bool_]
    """[rows, cols]."""
    valid: npt.NDArray[np.bool_]
    """[h, w] of the chunk's window."""
    tally: npt.NDArray[np.int64]
    """See plausibility.tally."""


def classify(
    tile: Readable,
    backend: Backend,
    patches: PatchGrid,
    *,
    chunk_size: int,
    min_valid: float,
    clocks: StageClocks,
    unfinished: UnfinishedGrid | None = None,
    content: Content | None = None,
) -> ProbabilityGrid:
    """The model's answers for every patch of a tile. The next chunk is read while the backend works on this one.

    What does not fill a batch waits for the next chunk, so that the last batch of the tile alone is padded.

    Chunks that `unfinished` has are taken from it, the others are kept in it as they come; see `gather`.
    """

    def read(chunk: Chunk) -> tuple[StagedChunk, npt.NDArray[np.int64]]:
        with clocks.stage("read"):
            pixels, valid = tile.read(chunk.window)
            # On its way to the engine's device while that works on the chunk before.
            return backend.stage(pixels, valid), tally(pixels, valid)

    def answered(chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, Answers], None, None]:
        backend.fit(patches.shape[0] * patches.shape[1])
        queue = PatchQueue(backend)
        waiting: deque[tuple[Chunk, npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]] = deque()

        def whole(done: Sequence[npt.NDArray[np.float32]]) -> Iterator[tuple[Chunk, Answers]]:
            for answers in done:
                chunk, wanted, valid, held = waiting.popleft()
                yield chunk, Answers(*placed(answers, wanted, chunk), valid, held)

        with ThreadPoolExecutor(1, "read-ahead") as reader:
            for chunk, (staged, held) in zip(chunks, in_order(reader, read, chunks), strict=True):
                with clocks.stage("infer"):
                    wanted = valid_share(staged.valid, chunk.origins, patches.patch_size) >= min_valid
                    waiting.append((chunk, wanted, staged.valid, held))
                    done = queue.put((staged, chunk.origins[wanted]))
                yield from whole(done)
            with clocks.stage("infer"):
                done = queue.finish()
            yield from whole(done)

    classes = len(backend.spec.classes)
    return gather(
        answered, patches, classes, chunk_size=chunk_size, clocks=clocks, unfinished=unfinished, content=content
    )


def classify_chunk(
    backend: Backend,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    chunk: Chunk,
    patch_size: int,
    min_valid: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Probabilities, and which patches have them, of a chunk with `pixels` [bands, h, w] and `valid` [h, w]."""
    wanted = valid_share(valid, chunk.origins, patch_size) >= min_valid
    return placed(backend.classify(pixels, valid, chunk.origins[wanted]), wanted, chunk)


def placed(
    answers: npt.NDArray[np.float32], wanted: npt.NDArray[np.bool_], chunk: Chunk
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """`answers` [n, classes] of the `wanted` patches of a chunk, and these, in its rows and columns."""
    probabilities = np.zeros((len(wanted), answers.shape[1]), np.float32)
    probabilities[wanted] = answers
    return probabilities.reshape(*chunk.shape, -1), wanted.reshape(chunk.shape)


def gather(
    answered: Callable[[Sequence[Chunk]], Generator[tuple[Chunk, Answers], None, None]],
    patches: PatchGrid,
    classes: int,
    *,
    chunk_size: int,
    clocks: StageClocks,
    unfinished: UnfinishedGrid | None = None,
    content: Content | None = None,
) -> ProbabilityGrid:
    """A grid of what is `answered`, in any order, of the chunks that `unfinished` does not have; it keeps them.

    What all of them hold, those of an earlier run too, is added to `content`.
    """
    grid = ProbabilityGrid.empty(patches, classes)
    done = unfinished.restore(grid, content) if unfinished else np.zeros(patches.shape, bool)
    chunks = [chunk for chunk in patches.chunks(chunk_size) if not done[chunk.rows, chunk.cols].all()]
    count = sum(len(chunk.origins) for chunk in chunks)
    with (
        progress(initial=done.size - count, total=done.size, desc="classify", unit="patch") as bar,
        closing(answered(chunks)) as coming,
    ):
        for chunk, answers in coming:
            grid.valid[chunk.window.slices] |= answers.valid
            grid.probabilities[chunk.rows, chunk.cols] = answers.probabilities
            grid.classified[chunk.rows, chunk.cols] = answers.classified
            if content:
                content.add(answers.tally)
            if unfinished:
                with clocks.stage("write"):
                    unfinished.keep(grid, chunk, answers.tally)
            bar.update(len(chunk.origins))
    return grid


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
    shape: tuple[int, int], work: Callable[[Window], Result], threads: int, what: str
) -> Iterator[Iterator[tuple[Window, Result]]]:
    """The blocks of a map of `shape`, row by row, each with what `work` makes of it in one of several threads."""
    height, width = shape
    blocks = [
        Window(row, col, min(BLOCK, height - row), min(BLOCK, width - col))
        for row in range(0, height, BLOCK)
        for col in range(0, width, BLOCK)
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
    """What is known of the class map once it is rendered."""

    pixels: npt.NDArray[np.int64]
    """[classes]: how many pixels have each class."""
    map_hash: str
    """sha256 of the map's shape and pixels."""
    thumbnail: npt.NDArray[np.uint8]
    """Every n-th pixel of the class map, so that its longer side stays under the size asked for."""


def render(
    grid: ProbabilityGrid,
    writers: Sequence[Writer],
    class_names: tuple[str, ...],
    *,
    blend_shape: str,
    clocks: StageClocks,
    threads: int,
    thumbnail_size: int = THUMBNAIL,
) -> Rendered:
    """Make pixels of the grid, block by block, and hand them to the writers, of which one must be the class layer's."""
    height, width = grid.patches.tile_shape
    window = window_weights(grid.patches.patch_size, blend_shape)
    pixels = np.zeros(len(class_names) + 1, np.int64)
    step = thumbnail_step((height, width), thumbnail_size)
    thumbnail = np.empty((-(-height // step), -(-width // step)), np.uint8)
    hashed = hashlib.sha256(f"{height}x{width}".encode())
    class_index = next(i for i, writer in enumerate(writers) if writer.layer.name == "class")

    def work(block: Window) -> list[npt.NDArray[Any]]:
        with clocks.stage("blend"):
            probabilities, valid = blend(grid, window, block)
            # All layers see the same array: one that changed it would spoil the next.
            probabilities.flags.writeable = False
            return [layers_module.apply(writer.layer, probabilities, class_names, valid) for writer in writers]

    with blockwise((height, width), work, threads, "render") as results:
        strip = np.empty((BLOCK, width), np.uint8)
        for block, values in results:
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
