"""Two tiny grids whose maps are known by hand, and larger ones against plain arithmetic on whole maps."""

from dataclasses import replace

import numpy as np
import pytest

from benexp.core.window import Window
from benexp.mapping.blending import blend, window_weights
from benexp.mapping.differences import BEYOND, FLIPS, SAME, TIE, Differences, differences
from benexp.mapping.grid import CLASSIFIED, INVALID, SKIPPED, VALID, PatchGrid, ProbabilityGrid


def grid(probabilities: list[list[float]]) -> ProbabilityGrid:
    """Four patches of 2 x 2 pixels side by side, which do not overlap: a pixel has its patch's probabilities."""
    made = ProbabilityGrid.empty(PatchGrid((2, 8), 2, 2), 3)
    made.probabilities[0] = probabilities
    made.patch_states[:] = CLASSIFIED
    made.pixel_states[:] = VALID
    return made


def compare(
    before: ProbabilityGrid,
    after: ProbabilityGrid,
    tolerance: float,
    size: int = 1024,
    area: Window | None = None,
) -> tuple[Differences, np.ndarray]:
    area = area or Window(0, 0, *before.patches.tile_shape)
    values = np.full(area.shape, 77, np.uint8)

    def take(block: np.ndarray, window: Window) -> None:
        values[window.slices] = block

    found = differences(
        before, after, area, blend_shape="flat", tolerance=tolerance, threads=2, take=take, thumbnail_size=size
    )
    return found, values


def test_a_flip_a_tie_and_a_difference_without_either() -> None:
    before = grid([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.50, 0.45, 0.1], [0.1, 0.1, 0.9]])
    # The same; class 1 to 2; class 0 to 1, which were .05 apart; other probabilities, but the same class.
    after = grid([[0.9, 0.1, 0.1], [0.1, 0.6, 0.7], [0.47, 0.48, 0.1], [0.1, 0.2, 0.8]])
    before.pixel_states[0, 7] = after.pixel_states[0, 7] = INVALID
    found, values = compare(before, after, tolerance=0.06)
    assert values.tolist() == [[SAME, SAME, BEYOND, BEYOND, TIE, TIE, SAME, 255], [0, 0, 2, 2, 1, 1, 0, 0]]
    assert found.pixels == 15
    assert found.ties == 4
    assert found.flips.tolist() == [[0, 4, 0], [0, 0, 4], [0, 0, 0]]
    assert found.flips_per_million == pytest.approx(8e6 / 15)
    assert found.beyond_ties_per_million == pytest.approx(4e6 / 15)
    # The largest difference of any class, per pixel: 4 x 0, 4 x 0.6, 4 x 0.03, 3 x 0.1.
    assert found.prob_diff_max == pytest.approx(0.6)
    assert found.prob_diff_mean == pytest.approx((4 * 0.6 + 4 * 0.03 + 3 * 0.1) / 15)
    assert found.prob_diff_p99 == pytest.approx(0.6, rel=0.01)


def test_the_tolerance_tells_ties_from_the_rest() -> None:
    before = grid([[0.50, 0.45, 0.1]] * 4)
    after = grid([[0.40, 0.45, 0.1]] * 4)
    assert compare(before, after, tolerance=0.06)[0].ties == 16
    assert compare(before, after, tolerance=0.04)[0].ties == 0


def test_a_grid_does_not_differ_from_itself() -> None:
    one = grid([[0.5, 0.5, 0.1], [0.1, 0.9, 0.9], [0.3, 0.3, 0.3], [0.0, 0.0, 0.0]])
    found, values = compare(one, one, tolerance=0.1)
    assert not values.any()
    assert (found.flips_per_million, found.prob_diff_max, found.prob_diff_mean, found.prob_diff_p99) == (0, 0, 0, 0)


def test_grids_of_different_tiles_are_refused() -> None:
    one, other = grid([[0.1, 0.2, 0.3]] * 4), grid([[0.1, 0.2, 0.3]] * 4)
    other.pixel_states[0, 0] = INVALID
    with pytest.raises(ValueError, match="different tiles"):
        compare(one, other, tolerance=0.1)


def test_an_area_has_the_differences_of_its_pixels_alone() -> None:
    """Columns 3 to 6 hold one pixel of the second patch, both of the third and one of the fourth."""
    before = grid([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.50, 0.45, 0.1], [0.1, 0.1, 0.9]])
    after = grid([[0.1, 0.9, 0.1], [0.1, 0.6, 0.7], [0.47, 0.48, 0.1], [0.1, 0.2, 0.8]])
    # Outside the area the grids may differ in anything.
    after.patch_states[0, 0], after.pixel_states[:, :2] = SKIPPED, INVALID
    found, values = compare(before, after, tolerance=0.06, area=Window(1, 3, 1, 4))
    assert values.tolist() == [[BEYOND, TIE, TIE, SAME]]
    assert (found.pixels, found.ties) == (4, 2)
    assert found.flips.tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]
    assert found.prob_diff_max == pytest.approx(0.6)
    assert found.prob_diff_mean == pytest.approx((0.6 + 2 * 0.03 + 0.1) / 4)


def test_block_by_block_is_the_same_as_all_at_once() -> None:
    """A tile of several blocks, none of which is whole, with overlapping patches, skipped ones and holes."""
    rng = np.random.default_rng(0)
    patches = PatchGrid((700, 1100), 40, 25)
    before = ProbabilityGrid.empty(patches, 5)
    before.patch_states[:] = np.where(rng.random(patches.shape) < 0.9, CLASSIFIED, SKIPPED)
    before.pixel_states[:] = np.where(rng.random((700, 1100)) < 0.95, VALID, INVALID)
    before.probabilities[:] = rng.random(before.probabilities.shape) * before.classified[..., None]
    noise = rng.normal(0, 0.02, before.probabilities.shape).astype(np.float32)
    changed = np.clip(before.probabilities + noise, 0, 1) * before.classified[..., None]
    after = replace(before, probabilities=changed)
    found, values = compare(before, after, tolerance=0.01, size=100)

    whole, weights = Window(0, 0, 700, 1100), window_weights(40, "flat")
    (old, valid), (new, _) = blend(before, weights, whole), blend(after, weights, whole)
    flipped = valid & (old.argmax(0) != new.argmax(0))
    second, best = np.sort(old, axis=0)[-2:]
    far = best - second > np.float32(0.01)
    expected = np.where(valid, np.where(flipped, np.where(far, BEYOND, TIE), SAME), FLIPS.nodata)
    assert (values != expected).sum() <= 3  # pixels whose last bit depends on the size of the matrix product
    assert 0 < found.ties < found.flips.sum()
    assert found.flips.sum() == np.isin(values, (TIE, BEYOND)).sum()
    assert found.pixels == valid.sum()
    largest = np.abs(old - new).max(0)[valid]
    assert found.prob_diff_max == pytest.approx(float(largest.max()), rel=1e-4)
    assert found.prob_diff_mean == pytest.approx(float(largest.mean()), rel=1e-4)
    assert found.prob_diff_p99 == pytest.approx(float(np.quantile(largest, 0.99)), rel=0.01)
    # Cells of 11 x 11 pixels: the reduced map's longer side is 100.
    assert found.marks.shape == (2, 64, 100)
    padded = np.zeros((704, 1100), np.uint8)
    padded[:700] = values
    cells = padded.reshape(64, 11, 100, 11)
    for counts, kind in zip(found.marks, (TIE, BEYOND), strict=True):
        assert np.array_equal(counts, (cells == kind).sum((1, 3)))
