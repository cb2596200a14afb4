"""Tiles spread over workers: each to one of them, or its chunks to all."""

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from benexp.config.schema import Config
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.execution.worker import Engine, Task, tell
from benexp.execution.worker_task import TileWorkshop
from benexp.mapping.grid import Chunk, PatchGrid
from benexp.mapping.pipeline import Answers
from benexp.models.spec import ModelSpec
from benexp.products import open_product
from benexp.products.tile import Tile


def engine(config: Config, overrides: Sequence[str], spec: ModelSpec, found: Sequence[Path]) -> Engine:
    """The workers that the configuration asks for, not started yet."""
    workshop = TileWorkshop(config, overrides, spec, found)
    if config.execution.name == "dask":
        from benexp.execution.dask import DaskEngine

        return DaskEngine(workshop, config.execution)
    from benexp.execution.local import Processes

    return Processes(workshop, min(config.execution.workers, len(found)))


RENDERING = 0.25
"""How much of a tile's time is left to the one place that renders, where its chunks are classified by all workers."""


def whole_tiles(engine: Engine, found: Sequence[Path]) -> Sequence[Path]:
    """Those products that go to one worker each; the chunks of the last ones go to all, where that is sooner done.

    Left over from full rounds, n tiles take as long as one if each has a worker. In chunks they take n times as long
    as one that all workers share, and as its rendering, which nobody shares.
    """
    left = len(found) % engine.workers
    shared = engine.shares_chunks and left * (1 / engine.workers + RENDERING) < 1
    return found[: len(found) - left] if shared else found


def classify_tiles(
    engine: Engine, products: Sequence[Path], say: Callable[[str], object]
) -> Iterator[tuple[Path, dict[str, Any] | BenexpError]]:
    """Each product as one task; its record, or why there is none, as they come."""
    names: dict[str, Path] = {}
    todo = []
    for product in products:
        name = _name(product)
        if name in names:
            # Told before two workers meet in one folder.
            yield product, BenexpError(f"{product}: its results would overwrite those of another {name}: rename it")
        else:
            todo.append(product)
            names |= {name: product} if name else {}
    for number, outcome in engine.outcomes("tile", [(product.absolute(),) for product in todo]):
        tell(outcome)
        if outcome.error:
            yield todo[number], outcome.error
        else:
            record, said = outcome.value
            for text in said:
                say(text)
            yield todo[number], record


def _name(product: Path) -> str | None:
    try:
        return open_product(product).name
    except BenexpError:
        return None  # its worker will say why


class Elsewhere:
    """A tile whose chunks are classified by an engine's workers."""

    def __init__(self, engine: Engine, product: Path, tile: Tile, patches: PatchGrid, chunk_size: int) -> None:
        self._engine = engine
        self._task = (product.absolute(), tile.stamp, tile.fingerprint)
        self._numbers = {_corner(chunk): number for number, chunk in enumerate(patches.chunks(chunk_size))}
        self._backend: dict[str, Any] | None = None

    def answered(self, chunks: Sequence[Chunk], clocks: StageClocks) -> Generator[tuple[Chunk, Answers], None, None]:
        """The answers for `chunks`, as they come; how long they took is added to `clocks`."""
        tasks = [(*self._task, self._numbers[_corner(chunk)]) for chunk in chunks]
        for index, parcel in self._values("chunk", tasks):
            self._backend = self._backend or parcel.backend
            for stage, seconds in parcel.seconds.items():
                clocks.add(stage, seconds)
            yield chunks[index], parcel.answers(chunks[index].window.shape)

    def describe(self) -> dict[str, Any]:
        """What the first worker that answered says of its backend."""
        for _, description in self._values("describe", [()]) if self._backend is None else ():
            self._backend = description
        assert self._backend
        return self._backend

    def _values(self, method: str, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        for index, outcome in self._engine.outcomes(method, tasks):
            tell(outcome)
            if outcome.error:
                raise outcome.error
            yield index, outcome.value


def _corner(chunk: Chunk) -> tuple[int, int]:
    return chunk.rows.start, chunk.cols.start
