"""The patches that engines compute beyond those of a tile, counted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.core.clocks import StageClocks
from benexp.core.window import Window
from benexp.mapping import pipeline
from benexp.mapping.grid import Answers, PatchGrid, ProbabilityGrid
from tests.mapping.test_pipeline import CLASSES, SPEC, ArrayTile


class Constant(NullBackend):
    """Answers the mean of each patch, and counts as the null backend does."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        super()._infer(patches)
        return np.repeat(patches.mean((1, 2, 3))[:, None] / 65536, len(self.spec.classes), axis=1)


@pytest.mark.parametrize("batch_size", [32, 250, 256, 300, 512, 700, 1000, 1024])
@pytest.mark.parametrize(("positions", "in_a_chunk"), [(182, 34), (92, 17)], ids=["stride 60", "stride 120"])
def test_a_whole_tile_is_hardly_padded_and_no_bit_changes(positions: int, in_a_chunk: int, batch_size: int) -> None:
    """A tile with as many patches as Sentinel-2's, each of 2 x 2 pixels, in as many chunks as those of 2048 px have."""
    spec = replace(SPEC, patch_size=2)
    tile, patches = ArrayTile((positions + 1, positions + 1)), PatchGrid((positions + 1, positions + 1), 2, 1)

    def grid_of(backend: Backend, chunk_size: int) -> ProbabilityGrid:
        grid = ProbabilityGrid.empty(patches, len(CLASSES))
        settings: dict[str, Any] = {"chunk_size": chunk_size, "min_valid": 0.5, "clocks": StageClocks()}
        pipeline.classify(tile, backend, grid, Window(0, 0, *tile.shape), **settings)
        return grid

    with Constant(spec, batch_size=batch_size) as backend:
        warmed = backend.computed
        grid = grid_of(backend, in_a_chunk)
        computed = backend.describe()["patches_computed"] - warmed
        # As workers do who share the chunks of a tile.
        alone, warmed = ProbabilityGrid.empty(patches, len(CLASSES)), backend.computed
        for chunk in patches.chunks(in_a_chunk):
            pixels, valid = tile.read(chunk.window)
            answers = pipeline.classify_chunk(backend, pixels, valid, chunk, 2, 0.5)
            alone.add(chunk, Answers(*answers, valid, np.zeros((0, 0), np.int64)))
        computed_alone = backend.computed - warmed
    with Constant(spec, batch_size=64) as backend:
        expected = grid_of(backend, 5000)
    assert grid.classified.sum() == positions**2
    assert positions**2 / max(computed, computed_alone) >= 0.97
    assert np.array_equal(grid.probabilities, expected.probabilities)
    assert np.array_equal(alone.probabilities, expected.probabilities)


def test_a_run_that_goes_on_has_the_batches_of_one_that_does_all() -> None:
    spec, shape = replace(SPEC, patch_size=2), (41, 11)
    grid = ProbabilityGrid.empty(PatchGrid(shape, 2, 1), len(CLASSES))
    settings: dict[str, Any] = {"chunk_size": 20, "min_valid": 0.5, "clocks": StageClocks()}
    batches = []
    with Constant(spec, batch_size=300) as backend:
        for area in (Window(0, 0, 21, 11), Window(0, 0, *shape)):
            pipeline.classify(ArrayTile(shape), backend, grid, area, **settings)
            batches.append(backend.at_once)
    # 21 x 10 patches touch the first area, in a batch of a multiple of 8; of the 40 x 10 of the second, 190 are left.
    assert batches == [216, 200]


def test_patches_that_wait_do_not_keep_their_chunk_alive() -> None:
    """One patch short of a batch, chunk after chunk: only the rows that are needed are kept."""
    held: list[int] = []

    class Watching(Constant):
        def classify_parts(self, parts: Any) -> np.ndarray:
            held.append(max(chunk.pixels.shape[1] for chunk, _ in parts[:-1]) if parts[1:] else 0)
            return super().classify_parts(parts)

    spec = replace(SPEC, patch_size=2)
    shape = (61, 21)
    with Watching(spec, batch_size=256) as backend:
        tile = ArrayTile(shape)
        grid = ProbabilityGrid.empty(PatchGrid(shape, 2, 1), len(CLASSES))
        settings: dict[str, Any] = {"chunk_size": 20, "min_valid": 0.5, "clocks": StageClocks()}
        pipeline.classify(tile, backend, grid, Window(0, 0, *shape), **settings)
    # Chunks of 20 x 20 patches: 144 wait of the first one, in eight of its rows.
    assert 0 < max(held) <= 10
