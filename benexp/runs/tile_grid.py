"""The probability grid of a tile: saved answers to the same question are reused, only missing ones are computed."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import locked
from benexp.mapping import pipeline
from benexp.mapping.grid import PatchGrid, ProbabilityGrid, origin_of
from benexp.mapping.plausibility import NO_DATA, Content, check_answers
from benexp.mapping.resume import KeptChunks
from benexp.products.region import TileRegion
from benexp.products.tile import Tile
from benexp.records.figures import BackendDescription
from benexp.records.run import GridOrigin
from benexp.runs.grid_key import grid_key, is_other, question
from benexp.runs.plan import RunPlan

log = logging.getLogger("benexp")

SAMPLES = 1024
"""Pixels a side at most that are looked at for data where no pixel is valid."""


@dataclass(frozen=True)
class TileGrid:
    """The grid of a tile, with all answers for a region, and how it came about."""

    grid: ProbabilityGrid
    origin: GridOrigin
    path: Path
    """The file of the grid, which all runs with its key share."""
    reused: bool
    """True where nothing was classified."""
    resumed_chunks: int
    warnings: list[str]


class TileClassifier(Protocol):
    """Classifies the patches of a tile: in this process, or by workers."""

    def classify(
        self, region: TileRegion, grid: ProbabilityGrid, kept: KeptChunks, clocks: StageClocks
    ) -> BackendDescription:
        """Fill in the answers that `grid` misses of a region; `describe()` of the backend."""
        ...


class LocalClassifier:
    """Classifies with one backend of this process."""

    def __init__(self, plan: RunPlan, backend: Callable[[int], Backend]) -> None:
        """`backend` returns an open backend for so many patches; called only where the saved grid lacks answers."""
        self._plan = plan
        self._backend = backend

    def classify(
        self, region: TileRegion, grid: ProbabilityGrid, kept: KeptChunks, clocks: StageClocks
    ) -> BackendDescription:
        """See TileClassifier."""
        with clocks.stage("load"):
            backend = self._backend(grid.patches.count(region.window))
        tile, chunking = region.tile, self._plan.chunking
        pipeline.classify(
            tile,
            backend,
            grid,
            region.window,
            chunk_size=chunking.chunk_size,
            min_valid=chunking.min_valid,
            clocks=clocks,
            kept=kept,
        )
        clocks.add("decode", tile.decode_seconds)
        clocks.add("assemble", tile.assemble_seconds)
        return backend.describe()


def _grid_file(plan: RunPlan, tile: Tile, tile_folder: Path, results: Path) -> Path:
    """The tile's grid, which all runs with its question share; a file in `results` beside one of another question.

    Raises BenexpError where `results` is the tile's folder, and the run may not replace the grid there.
    """
    shared = tile_folder / f"{tile.name}_grid.npz"
    there = origin_of(shared)
    if there is None:
        return shared
    if there.question == question(plan, tile) and not is_other(tile, there.product, there.product_hash):
        return shared
    if results != tile_folder:
        return results / shared.name
    if not plan.overwrite:
        raise BenexpError(
            f"{shared} has the answers to another question, which runs of regions may need: choose another "
            f"output_folder= or output_name=, or replace it with overwrite=true"
        )
    return shared


def obtain_grid(
    plan: RunPlan,
    region: TileRegion,
    tile_folder: Path,
    results: Path,
    classifier: TileClassifier,
    sound: "Future[None]",
    clocks: StageClocks,
) -> TileGrid:
    """The grid of a tile with the answers for a region, once the product is known to be `sound`.

    Saved answers lie in `tile_folder`, or in `results`, the folder of this run, where chunks are kept, too.
    """
    tile, spec = region.tile, plan.spec
    patches = PatchGrid(tile.shape, spec.patch_size, plan.chunking.stride)
    with clocks.stage("integrity"):
        key = grid_key(plan, tile)
    path = _grid_file(plan, tile, tile_folder, results)
    saved = ProbabilityGrid.load(path, key, patches, len(spec.classes)) if plan.resume else None
    if plan.resume and not saved and path.is_file():
        log.info("%s: configuration, input or benexp changed since its grid was saved: classified anew", tile.name)
    grid, origin = saved or (ProbabilityGrid.empty(patches, len(spec.classes)), None)
    kept = KeptChunks(results, key, patches, len(spec.classes))
    if not plan.resume:
        kept.remove()
    touching = patches.touching(region.window)
    reused = not grid.missing(region.window).any()
    if reused:
        kept.remove()
    else:
        # The tally of this run alone: it is added to that of the saved grid, which others may have added to.
        grid.tally = np.zeros((0, 0), np.int64)
        description = classifier.classify(region, grid, kept, clocks)
        try:
            sound.result()
            if spec.trained and not issubclass(plan.backend.kind, NullBackend):
                check_answers(grid, f"{spec.name} on {description['backend']}")
            Content(spec.bands, grid.tally).check(grid.classified[touching])
            _check_data(region, grid)
        except BaseException:
            # Else the next run would go on from them, and come to the same.
            kept.remove()
            raise
        source = plan.range_patches.source if plan.range_patches else None
        origin = GridOrigin(
            grid_key=key,
            question=question(plan, tile),
            product=str(tile.product.path),
            product_hash=tile.fingerprint,
            backend=description,
            range_patches=source,
        )
        own = grid.tally
        with clocks.stage("write"), locked(tile_folder / f".{path.stem}.lock"):
            # Answers of other runs stay, also those that came meanwhile, and were none when this one began.
            path = _grid_file(plan, tile, tile_folder, results)
            if current := _current(plan, path, key, patches, len(spec.classes)):
                grid.merge(current)
            grid.save(path, origin)
        kept.remove()
    assert origin
    sound.result()
    # A region's warnings are about what it read, not about other regions.
    content = Content(spec.bands, grid.tally if reused or region.is_whole else own)
    content.check(grid.classified[touching])
    _check_data(region, grid)
    warnings = [*content.gaps(grid), *content.warnings(tile.offset_decision)]
    for warning in warnings:
        log.warning("%s: %s", tile.name, warning)
    return TileGrid(grid, origin, path, reused, kept.restored, warnings)


def _current(plan: RunPlan, path: Path, key: str, patches: PatchGrid, classes: int) -> ProbabilityGrid | None:
    """The grid at `path` now, if it has this key; a damaged one is replaced by a run that does not resume."""
    try:
        saved = ProbabilityGrid.load(path, key, patches, classes)
    except BenexpError as error:
        if plan.resume:
            raise
        log.warning("%s; it is replaced", error)
        return None
    return saved[0] if saved else None


def _check_data(region: TileRegion, grid: ProbabilityGrid) -> None:
    """Raise BenexpError where a region has no data itself, whatever its patches have beyond its border."""
    masked_or_empty = not grid.valid(region.window).any()
    if masked_or_empty and not region.tile.reduced(region.tile.bands, SAMPLES, region.window).any():
        raise BenexpError(NO_DATA)
