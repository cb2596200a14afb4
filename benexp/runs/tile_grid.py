"""The probability grid of a tile: the saved one where it answers the same question, else a new one."""

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.core.clocks import StageClocks
from benexp.mapping import pipeline
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.mapping.plausibility import Content, check_answers
from benexp.mapping.resume import UnfinishedGrid
from benexp.products.tile import Tile
from benexp.records.run import GridOrigin
from benexp.runs.grid_key import grid_key
from benexp.runs.plan import RunPlan

log = logging.getLogger("benexp")


class Classifier(Protocol):
    """Classifies the patches of a tile: in this process, or by workers."""

    def classify(
        self, tile: Tile, patches: PatchGrid, unfinished: UnfinishedGrid, content: Content, clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """The grid of all patches, and `describe()` of the backend. Chunks that `unfinished` has are not repeated."""
        ...


class LocalClassifier:
    """Classifies with one backend of this process."""

    def __init__(self, plan: RunPlan, backend: Callable[[], Backend]) -> None:
        """`backend` returns an open backend; it is called only for tiles whose saved grid is not reused."""
        self._plan = plan
        self._backend = backend

    def classify(
        self, tile: Tile, patches: PatchGrid, unfinished: UnfinishedGrid, content: Content, clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """See Classifier."""
        with clocks.stage("load"):
            backend = self._backend()
        chunking = self._plan.chunking
        grid = pipeline.classify(
            tile,
            backend,
            patches,
            chunk_size=chunking.chunk_size,
            min_valid=chunking.min_valid,
            clocks=clocks,
            unfinished=unfinished,
            content=content,
        )
        clocks.add("decode", tile.decode_seconds)
        clocks.add("assemble", tile.assemble_seconds)
        return grid, backend.describe()


def obtain_grid(
    plan: RunPlan, tile: Tile, folder: Path, classifier: Classifier, sound: "Future[None]", clocks: StageClocks
) -> tuple[ProbabilityGrid, GridOrigin]:
    """The grid of a tile whose results lie in `folder`, and its origin, once the product is known to be `sound`."""
    patches = PatchGrid(tile.shape, plan.spec.patch_size, plan.chunking.stride)
    with clocks.stage("integrity"):
        key = grid_key(plan, tile)
    path = folder / f"{tile.name}_grid.npz"
    if plan.resume and (saved := ProbabilityGrid.load(path, key, patches, len(plan.spec.classes))):
        grid, origin = saved
        sound.result()
        return grid, dataclasses.replace(origin, reused=True, resumed_chunks=0)
    if plan.resume and path.is_file():
        log.info("%s: configuration, input or benexp changed since its grid was saved: classified anew", tile.name)
    unfinished, content = UnfinishedGrid(folder, key), Content(plan.spec.bands)
    if not plan.resume:
        unfinished.remove()
    grid, description = classifier.classify(tile, patches, unfinished, content, clocks)
    try:
        sound.result()
        if plan.spec.trained and not issubclass(plan.backend.kind, NullBackend):
            check_answers(grid, f"{plan.spec.name} on {description['backend']}")
        content.check(grid)
    except BaseException:
        # Else the next run would go on from them, and come to the same.
        unfinished.remove()
        raise
    warnings = [*content.gaps(grid), *content.warnings(tile.offset_decision)]
    for warning in warnings:
        log.warning("%s: %s", tile.name, warning)
    return grid, GridOrigin(
        grid_key=key,
        backend=description,
        warnings=warnings,
        calibration=plan.range_patches.source if plan.range_patches else None,
        resumed_chunks=unfinished.restored,
    )
