"""Tiles distributed over workers: each to one of them, or its chunks to all."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.execution.worker import Call, WorkerPool, log_messages
from benexp.execution.worker_task import ClassifyTask
from benexp.mapping import pipeline
from benexp.mapping.grid import Chunk, ProbabilityGrid
from benexp.mapping.resume import KeptChunks
from benexp.products import open_product
from benexp.products.region import TileRegion
from benexp.records.figures import BackendDescription
from benexp.runs.plan import RunPlan
from benexp.runs.tile_run import Outcomes, run_tiles

RENDERING = 0.25
"""Share of a tile's time that its rendering takes, in one process, where its chunks are classified by all workers."""


def distribute(plan: RunPlan, say: Callable[[str], object]) -> Outcomes:
    """Classify the plan's products by workers: tiles while there is one for each, then the chunks of those left."""
    # Or every worker would export the model for itself.
    plan.make_artefact()
    with _pool(plan) as pool:
        whole = whole_tiles(pool, plan.products)
        taken = set()
        for product, outcome in _classify_tiles(pool, whole, say):
            taken |= set() if isinstance(outcome, BenexpError) else {outcome.tile}
            yield product, outcome
        yield from run_tiles(plan, plan.products[len(whole) :], RemoteClassifier(plan, pool), say, taken)


def _pool(plan: RunPlan) -> WorkerPool:
    """The workers that the plan asks for, not started yet."""
    task = ClassifyTask(plan)
    if plan.execution.name == "dask":
        from benexp.execution.dask import DaskPool

        return DaskPool(task, plan.execution)
    from benexp.execution.local import LocalPool

    return LocalPool(task, min(plan.execution.workers, len(plan.products)))


def whole_tiles(pool: WorkerPool, products: Sequence[Path]) -> Sequence[Path]:
    """Those products that go to one worker each; the chunks of the last ones go to all, where that is sooner done.

    Left over from full rounds, n tiles take as long as one if each has a worker. In chunks they take n times as long
    as one that all workers share, and as its rendering, which nobody shares.
    """
    left = len(products) % pool.workers
    shared = pool.shares_chunks and left * (1 / pool.workers + RENDERING) < 1
    return products[: len(products) - left] if shared else products


def _classify_tiles(pool: WorkerPool, products: Sequence[Path], say: Callable[[str], object]) -> Outcomes:
    """Each product as one call; its record, or why there is none, as they come."""
    names: dict[str, Path] = {}
    todo = []
    for product in products:
        name = _name(product)
        if name in names:
            # Refused before two workers meet in one folder.
            yield product, BenexpError(f"{product}: its results would overwrite those of another {name}: rename it")
        else:
            todo.append(product)
            names |= {name: product} if name else {}
    for number, outcome in pool.outcomes("tile", [(product.absolute(),) for product in todo]):
        log_messages(outcome)
        if outcome.error:
            yield todo[number], outcome.error
        else:
            record, lines = outcome.value
            for line in lines:
                say(line)
            yield todo[number], record


def _name(product: Path) -> str | None:
    try:
        return open_product(product).name
    except BenexpError:
        return None  # its worker raises the error again


class RemoteClassifier:
    """Has the chunks of a tile classified by the workers of a pool. See runs.tile_grid.TileClassifier."""

    def __init__(self, plan: RunPlan, pool: WorkerPool) -> None:
        self._plan = plan
        self._pool = pool

    def classify(
        self, region: TileRegion, grid: ProbabilityGrid, kept: KeptChunks, clocks: StageClocks
    ) -> BackendDescription:
        """See TileClassifier."""
        tile = region.tile
        product = (tile.product.path.absolute(), tile.stamp, tile.fingerprint)
        backend: BackendDescription = {}

        def answered(chunks: Sequence[Chunk]) -> pipeline.Answered:
            calls = [(*product, chunk.rows, chunk.cols, np.packbits(chunk.wanted)) for chunk in chunks]
            for index, result in self._values("chunk", calls):
                backend.update(backend or result.backend)
                for stage, seconds in result.seconds.items():
                    clocks.add(stage, seconds)
                yield chunks[index], result.answers(chunks[index].window.shape)

        chunk_size = self._plan.chunking.chunk_size
        pipeline.gather(answered, grid, region.window, chunk_size=chunk_size, clocks=clocks, kept=kept)
        for _, description in self._values("describe", [()]) if not backend else ():
            backend.update(description)
        return backend

    def _values(self, method: str, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        for index, outcome in self._pool.outcomes(method, calls):
            log_messages(outcome)
            if outcome.error:
                raise outcome.error
            yield index, outcome.value
