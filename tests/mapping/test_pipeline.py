"""The map does not depend on how it was computed: an arithmetic predictor whose answers are known by hand."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.core.clocks import StageClocks
from benexp.core.window import Window
from benexp.mapping import layers, pipeline
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.models.spec import ModelSpec
from tests.mapping.test_blending import direct

CLASSES = ("row", "col", "valid")
SPEC = ModelSpec(
    name="arithmetic",
    architecture="none",
    bands=("B02", "B03"),
    means=(5000.0, 7000.0),
    stds=(1.0, 1.0),
    patch_size=12,
    classes=CLASSES,
    weights="folder",
    source="test",
    revision=None,
    weights_hash="0" * 64,
    path=Path(),
)


class Arithmetic(Backend):
    """Answers the patch's own position, which its pixels hold, and the mean of its first band."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        assert len(patches) == self.batch_size
        corner = patches[:, :, -1, -1]
        return np.stack([corner[:, 0] / 4096, corner[:, 1] / 4096, patches[:, 0].mean((1, 2)) / 65536], axis=1)


class ArrayTile:
    """A tile in memory whose pixel (y, x) holds y + 1 and x + 1."""

    def __init__(self, shape: tuple[int, int], valid: np.ndarray | None = None) -> None:
        self.shape = shape
        self.pixels = np.stack(np.mgrid[1 : shape[0] + 1, 1 : shape[1] + 1]).astype(np.uint16)
        self.valid = np.ones(shape, bool) if valid is None else valid
        self.pixels[:, ~self.valid] = 0

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[:, *window.slices], self.valid[window.slices]


class Collector:
    """A writer that keeps the raster in memory."""

    def __init__(self, layer: layers.Layer, shape: tuple[int, int]) -> None:
        self.layer = layer
        self.values = np.zeros((layer.bands, *shape), layer.dtype)

    def write(self, values: np.ndarray, window: Window) -> None:
        self.values[:, *window.slices] = values


def classified(tile: ArrayTile, stride: int, chunk_size: int = 40, batch_size: int = 7) -> ProbabilityGrid:
    patches = PatchGrid(tile.shape, SPEC.patch_size, stride)
    with Arithmetic(SPEC, batch_size=batch_size) as backend:
        return pipeline.classify(tile, backend, patches, chunk_size=chunk_size, min_valid=0.5, clocks=StageClocks())


def rendered(grid: ProbabilityGrid, threads: int = 2, **settings: Any) -> tuple[pipeline.Rendered, list[Collector]]:
    built = layers.build({"names": ["class", "maxprob", "entropy", "gap", "probs"], **settings}, CLASSES)
    writers = [Collector(layer, grid.patches.tile_shape) for layer in built]
    result = pipeline.render(
        grid, writers, CLASSES, blend_shape="sin2", clocks=StageClocks(), threads=threads, thumbnail_size=50
    )
    return result, writers


def wedge(shape: tuple[int, int]) -> np.ndarray:
    """A diagonal nodata edge as at the side of a swath."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return x + y > 0.4 * shape[1]


@pytest.mark.parametrize("stride", [12, 6, 5])
@pytest.mark.parametrize("shape", [(12, 12), (13, 12), (64, 90), (101, 67)])
def test_the_grid_is_the_arithmetic_of_the_positions(shape: tuple[int, int], stride: int) -> None:
    grid = classified(ArrayTile(shape), stride)
    # The last pixel of a patch at origin o holds o + 12.
    rows, cols = np.meshgrid(grid.patches.rows, grid.patches.cols, indexing="ij")
    assert np.array_equal(grid.probabilities[..., 0], ((rows + 12) / 4096).astype(np.float32))
    assert np.array_equal(grid.probabilities[..., 1], ((cols + 12) / 4096).astype(np.float32))
    assert grid.classified.all()
    assert grid.valid.all()


@pytest.mark.parametrize("stride", [12, 6, 5])
@pytest.mark.parametrize(("chunk_size", "batch_size"), [(12, 1), (13, 7), (24, 64), (37, 5), (50, 2), (1000, 16)])
def test_chunks_and_batches_change_no_bit(stride: int, chunk_size: int, batch_size: int) -> None:
    tile = ArrayTile((101, 67), wedge((101, 67)))
    expected = classified(tile, stride, chunk_size=5000, batch_size=3)
    grid = classified(tile, stride, chunk_size, batch_size)
    assert np.array_equal(grid.probabilities, expected.probabilities)
    assert np.array_equal(grid.classified, expected.classified)
    assert np.array_equal(grid.valid, expected.valid)
    assert 0 < expected.classified.mean() < 1


def test_a_patch_is_classified_from_half_valid_on_and_its_invalid_pixels_are_the_band_mean() -> None:
    valid = np.zeros((12, 36), bool)
    valid[:, 18:] = True  # patches at 0, 12, 24: none, half, all of it
    grid = classified(ArrayTile((12, 36), valid), stride=12)
    assert grid.classified.tolist() == [[False, True, True]]
    assert not grid.probabilities[0, 0].any()
    half_of_rows = np.arange(1, 13).mean() / 2 + SPEC.means[0] / 2
    assert np.isclose(grid.probabilities[0, 1, 2], half_of_rows / 65536)


@pytest.mark.parametrize("stride", [12, 6, 5])
def test_the_map_is_that_of_an_untiled_reference(stride: int) -> None:
    shape = (64, 90)
    tile = ArrayTile(shape, wedge(shape))
    grid = classified(tile, stride, chunk_size=25)
    expected, meaningful = direct(grid, "sin2")
    result, writers = rendered(grid)
    by_name = {writer.layer.name: writer.values for writer in writers}
    assert np.abs(by_name["probs"][:, meaningful] - expected[:, meaningful]).max() < 1e-6
    assert np.isnan(by_name["probs"][:, ~meaningful]).all()
    assert np.array_equal(by_name["class"][0] == 255, ~meaningful)
    assert result.pixels.sum() == meaningful.sum()
    assert np.array_equal(np.bincount(by_name["class"][0][meaningful], minlength=3), result.pixels)
    assert result.map_hash == hashlib.sha256(b"64x90" + by_name["class"].tobytes()).hexdigest()
    assert np.array_equal(result.thumbnail, by_name["class"][0, ::2, ::2])


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BLOCK", 32)
    grid = classified(ArrayTile((101, 167), wedge((101, 167))), stride=5)
    one, many = rendered(grid, threads=1), rendered(grid, threads=5)
    assert one[0].map_hash == many[0].map_hash
    for first, second in zip(one[1], many[1], strict=True):
        assert np.array_equal(first.values, second.values, equal_nan=first.values.dtype.kind == "f")


def test_blocks_and_strips_make_the_same_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = classified(ArrayTile((101, 167)), stride=6)
    grid.probabilities[:] = np.random.default_rng(3).random(grid.probabilities.shape)  # no ties
    whole, _ = rendered(grid)
    monkeypatch.setattr(pipeline, "BLOCK", 23)
    cut, _ = rendered(grid)
    assert cut.map_hash == whole.map_hash
    assert np.array_equal(cut.thumbnail, whole.thumbnail)
    assert np.array_equal(cut.pixels, whole.pixels)


def test_a_tile_of_nodata_is_a_map_of_nodata() -> None:
    grid = classified(ArrayTile((30, 40), np.zeros((30, 40), bool)), stride=6)
    assert not grid.classified.any()
    result, writers = rendered(grid)
    assert (writers[0].values == 255).all()
    assert np.isnan(writers[1].values).all()
    assert not result.pixels.any()


def test_an_error_while_reading_stops_the_tile() -> None:
    class Broken(ArrayTile):
        def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
            if window.row > 0:
                raise OSError("damaged")
            return super().read(window)

    with pytest.raises(OSError, match="damaged"):
        classified(Broken((101, 67)), stride=6, chunk_size=20)


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
        return pipeline.classify(tile, backend, patches, chunk_size=chunk_size, min_valid=0.5, clocks=StageClocks())

    with Constant(spec, batch_size=batch_size) as backend:
        warmed = backend.computed
        grid = grid_of(backend, in_a_chunk)
        computed = backend.describe()["patches_computed"] - warmed
    with Constant(spec, batch_size=64) as backend:
        expected = grid_of(backend, 5000)
    assert grid.classified.sum() == positions**2
    assert positions**2 / computed >= 0.97
    assert np.array_equal(grid.probabilities, expected.probabilities)


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
        pipeline.classify(tile, backend, PatchGrid(shape, 2, 1), chunk_size=20, min_valid=0.5, clocks=StageClocks())
    # Chunks of 20 x 20 patches: 144 wait of the first one, in eight of its rows.
    assert 0 < max(held) <= 10
