"""The map does not depend on how it was computed: an arithmetic predictor whose answers are known by hand."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.backends.base import Backend
from benexp.core.clocks import StageClocks
from benexp.core.window import Window
from benexp.mapping import layers, pipeline
from benexp.mapping.grid import CLASSIFIED, SKIPPED, VALID, PatchGrid, ProbabilityGrid
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
        assert len(patches) == self.at_once
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


def whole(shape: tuple[int, int]) -> Window:
    return Window(0, 0, *shape)


def classify(
    tile: ArrayTile, grid: ProbabilityGrid, area: Window | None = None, chunk_size: int = 40, batch_size: int = 7
) -> None:
    with Arithmetic(SPEC, batch_size=batch_size) as backend:
        settings: dict[str, Any] = {"chunk_size": chunk_size, "min_valid": 0.5, "clocks": StageClocks()}
        pipeline.classify(tile, backend, grid, area or whole(tile.shape), **settings)


def empty(shape: tuple[int, int], stride: int) -> ProbabilityGrid:
    return ProbabilityGrid.empty(PatchGrid(shape, SPEC.patch_size, stride), len(CLASSES))


def classified(tile: ArrayTile, stride: int, chunk_size: int = 40, batch_size: int = 7) -> ProbabilityGrid:
    grid = empty(tile.shape, stride)
    classify(tile, grid, chunk_size=chunk_size, batch_size=batch_size)
    return grid


def rendered(
    grid: ProbabilityGrid, threads: int = 2, area: Window | None = None, **settings: Any
) -> tuple[pipeline.Rendered, list[Collector]]:
    area = area or whole(grid.patches.tile_shape)
    built = layers.build({"names": ["class", "maxprob", "entropy", "gap", "probs"], **settings}, CLASSES)
    writers = [Collector(layer, area.shape) for layer in built]
    result = pipeline.render(
        grid, area, writers, CLASSES, blend_shape="sin2", clocks=StageClocks(), threads=threads, thumbnail_size=50
    )
    return result, writers


def assert_cut_out(part: list[Collector], of: list[Collector], area: Window) -> None:
    for small, large in zip(part, of, strict=True):
        cut = large.values[:, *area.slices]
        assert np.array_equal(small.values, cut, equal_nan=cut.dtype.kind == "f"), small.layer.name


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
    assert (grid.patch_states == CLASSIFIED).all()
    assert (grid.pixel_states == VALID).all()


@pytest.mark.parametrize("stride", [12, 6, 5])
@pytest.mark.parametrize(("chunk_size", "batch_size"), [(12, 1), (13, 7), (24, 64), (37, 5), (50, 2), (1000, 16)])
def test_chunks_and_batches_change_no_bit(stride: int, chunk_size: int, batch_size: int) -> None:
    tile = ArrayTile((101, 67), wedge((101, 67)))
    expected = classified(tile, stride, chunk_size=5000, batch_size=3)
    grid = classified(tile, stride, chunk_size, batch_size)
    assert np.array_equal(grid.probabilities, expected.probabilities)
    assert np.array_equal(grid.patch_states, expected.patch_states)
    assert np.array_equal(grid.pixel_states, expected.pixel_states)
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
    uncut, _ = rendered(grid)
    monkeypatch.setattr(pipeline, "BLOCK", 23)
    cut, _ = rendered(grid)
    assert cut.map_hash == uncut.map_hash
    assert np.array_equal(cut.thumbnail, uncut.thumbnail)
    assert np.array_equal(cut.pixels, uncut.pixels)


def test_a_tile_of_nodata_is_a_map_of_nodata() -> None:
    grid = classified(ArrayTile((30, 40), np.zeros((30, 40), bool)), stride=6)
    assert (grid.patch_states == SKIPPED).all()
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


AREAS = [
    Window(31, 31, 58, 58),
    Window(0, 0, 1, 1),
    Window(100, 166, 1, 1),
    Window(50, 77, 5, 7),  # smaller than a patch
    Window(32, 64, 32, 32),  # one block of the lattice
    Window(0, 40, 101, 3),
    Window(0, 0, 101, 167),
]


@pytest.mark.parametrize("stride", [12, 6, 5])
@pytest.mark.parametrize("area", AREAS, ids=str)
def test_a_region_alone_is_the_cut_out_of_the_whole(monkeypatch: pytest.MonkeyPatch, area: Window, stride: int) -> None:
    monkeypatch.setattr(pipeline, "BLOCK", 32)
    shape = (101, 167)
    tile = ArrayTile(shape, wedge(shape))
    _, expected = rendered(classified(tile, stride))
    grid = empty(shape, stride)
    classify(tile, grid, area)
    result, part = rendered(grid, area=area)
    assert_cut_out(part, expected, area)
    pixels = part[0].values.tobytes()
    assert result.map_hash == hashlib.sha256(f"{area.height}x{area.width}".encode() + pixels).hexdigest()
    assert np.array_equal(result.pixels, np.bincount(part[0].values.ravel(), minlength=256)[: len(CLASSES)])
    step = -(-max(area.shape) // 50)
    assert np.array_equal(result.thumbnail, part[0].values[0, ::step, ::step])
    # The patches that touch it were asked for, and no others.
    asked = np.zeros(grid.patches.shape, bool)
    asked[grid.patches.touching(area)] = True
    assert np.array_equal(grid.patch_states != 0, asked)


def test_two_halves_joined_have_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BLOCK", 32)
    shape = (101, 167)
    tile = ArrayTile(shape, wedge(shape))
    _, expected = rendered(classified(tile, 6))
    halves = []
    for area in (Window(0, 0, 101, 83), Window(0, 83, 101, 84)):
        grid = empty(shape, 6)
        classify(tile, grid, area)
        halves.append(rendered(grid, area=area)[1])
    for left, right, both in zip(*halves, expected, strict=True):
        joined = np.concatenate([left.values, right.values], axis=2)
        assert np.array_equal(joined, both.values, equal_nan=joined.dtype.kind == "f"), both.layer.name


def test_regions_first_and_the_whole_later_is_the_whole_and_asks_for_each_patch_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    plain = pipeline.usable_patches

    def counted(*given: Any) -> Any:
        usable = plain(*given)
        asked.append(int(usable.sum()))
        return usable

    monkeypatch.setattr(pipeline, "usable_patches", counted)
    shape = (101, 167)
    tile = ArrayTile(shape, wedge(shape))
    expected = classified(tile, 5)
    count = sum(asked)
    asked.clear()
    grid = empty(shape, 5)
    for area in (Window(31, 31, 58, 58), Window(60, 60, 41, 100), whole(shape)):
        classify(tile, grid, area)
    assert sum(asked) == count == (expected.patch_states == CLASSIFIED).sum()
    for name in ("probabilities", "patch_states", "pixel_states"):
        assert np.array_equal(getattr(grid, name), getattr(expected, name)), name


def test_an_area_that_is_known_is_not_read() -> None:
    class Closed(ArrayTile):
        def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
            pytest.fail("it was read")

    grid = classified(ArrayTile((64, 90)), stride=6)
    classify(Closed((64, 90)), grid, Window(10, 10, 20, 20))
