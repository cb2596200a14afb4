"""The blend against the direct sum over patches, pixel by pixel."""

import numpy as np
import pytest

from benexp.core.window import Window
from benexp.mapping.blending import WINDOWS, axis_weights, blend, window_weights
from benexp.mapping.grid import CLASSIFIED, INVALID, NOT_ASKED, SKIPPED, VALID, PatchGrid, ProbabilityGrid


def direct(grid: ProbabilityGrid, shape: str) -> tuple[np.ndarray, np.ndarray]:
    """The definition, in double precision: every patch is spread over its pixels."""
    size = grid.patches.patch_size
    weights = np.outer(*[window_weights(size, shape)] * 2)
    height, width = grid.patches.tile_shape
    total = np.zeros((grid.probabilities.shape[-1], height, width))
    weight = np.zeros((height, width))
    for i, row in enumerate(grid.patches.rows):
        for j, col in enumerate(grid.patches.cols):
            if grid.classified[i, j]:
                at = np.s_[row : row + size, col : col + size]
                total[:, *at] += weights * grid.probabilities[i, j][:, None, None]
                weight[at] += weights
    covered = weight > 0
    return np.divide(total, weight, out=np.zeros_like(total), where=covered), covered & (grid.pixel_states == VALID)


def random_grid(tile_shape: tuple[int, int], patch_size: int, stride: int, skipped: float = 0.2) -> ProbabilityGrid:
    rng = np.random.default_rng(1)
    grid = ProbabilityGrid.empty(PatchGrid(tile_shape, patch_size, stride), 5)
    grid.patch_states[:] = np.where(rng.random(grid.patches.shape) >= skipped, CLASSIFIED, SKIPPED)
    grid.probabilities[grid.classified] = rng.random((grid.classified.sum(), 5))
    grid.pixel_states[:] = np.where(rng.random(tile_shape) > 0.1, VALID, INVALID)
    return grid


def test_two_patches_by_hand() -> None:
    # Patches of 2 pixels at 0 and 1: flat weights, so the middle pixel is the mean of both.
    grid = ProbabilityGrid.empty(PatchGrid((2, 3), 2, 1), 1)
    grid.probabilities[0, :, 0] = [0.2, 0.6]
    grid.patch_states[:] = CLASSIFIED
    grid.pixel_states[:] = VALID
    values, meaningful = blend(grid, window_weights(2, "flat"), Window(0, 0, 2, 3))
    assert np.allclose(values[0], [[0.2, 0.4, 0.6]] * 2)
    assert meaningful.all()


def test_sin2_weights_by_hand() -> None:
    # sin^2 of 22.5 and 67.5 degrees, up and down again.
    assert np.allclose(window_weights(4, "sin2"), [0.146447, 0.853553, 0.853553, 0.146447])


@pytest.mark.parametrize("shape", WINDOWS)
def test_no_weight_is_zero_and_windows_are_symmetric(shape: str) -> None:
    weights = window_weights(120, shape)
    assert weights.min() > 0
    assert np.allclose(weights, weights[::-1])


def test_axis_weights_take_in_every_patch_that_reaches_the_block() -> None:
    reach, weights = axis_weights(np.array([0, 3, 6, 9]), np.ones(4), start=6, stop=8)
    assert reach == slice(1, 3)  # patches at 3 (to 6) and 6
    assert weights.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("shape", WINDOWS)
@pytest.mark.parametrize(
    ("tile_shape", "patch_size", "stride"),
    [((31, 47), 8, 4), ((31, 47), 8, 8), ((31, 47), 8, 3), ((8, 8), 8, 4), ((9, 8), 8, 4), ((40, 23), 12, 1)],
)
def test_blend_is_the_direct_sum(shape: str, tile_shape: tuple[int, int], patch_size: int, stride: int) -> None:
    grid = random_grid(tile_shape, patch_size, stride)
    expected, expected_meaningful = direct(grid, shape)
    values, meaningful = blend(grid, window_weights(patch_size, shape), Window(0, 0, *tile_shape))
    assert np.abs(values - expected).max() < 1e-6
    assert np.array_equal(meaningful, expected_meaningful)


def test_blocks_give_what_the_whole_gives() -> None:
    grid = random_grid((50, 70), 12, 5)
    window = window_weights(12, "sin2")
    whole, _ = blend(grid, window, Window(0, 0, 50, 70))
    for row, col in [(0, 0), (0, 32), (32, 0), (32, 64)]:
        block = Window(row, col, min(32, 50 - row), min(32, 70 - col))
        values, meaningful = blend(grid, window, block)
        assert np.abs(values - whole[:, *block.slices]).max() < 1e-6
        assert np.array_equal(meaningful, blend(grid, window, Window(0, 0, 50, 70))[1][block.slices])


def test_classes_that_tie_in_every_patch_tie_in_every_pixel() -> None:
    """To the last bit, wherever the pixel lies: ties go to the lowest class id, and must be there to be found."""
    grid = random_grid((601, 533), 24, 7, skipped=0.1)
    grid.probabilities[:] = grid.probabilities[..., :1]
    values, _ = blend(grid, window_weights(24, "sin2"), Window(0, 0, 512, 512))
    assert (values == values[0]).all()


@pytest.mark.parametrize("state", [NOT_ASKED, SKIPPED])
def test_what_no_classified_patch_covers_means_nothing(state: int) -> None:
    grid = random_grid((20, 20), 8, 4)
    grid.patch_states[:] = state
    grid.probabilities[:] = 0
    grid.pixel_states[:] = VALID
    values, meaningful = blend(grid, window_weights(8, "sin2"), Window(0, 0, 20, 20))
    assert not meaningful.any()
    assert not values.any()
