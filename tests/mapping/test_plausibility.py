import re
from dataclasses import replace

import numpy as np
import pytest

from benexp.core.errors import BenexpError
from benexp.mapping.grid import CLASSIFIED, NOT_ASKED, SKIPPED, PatchGrid, ProbabilityGrid, add_tallies
from benexp.mapping.plausibility import Content, check_answers, tally
from benexp.products.offsets import OffsetDecision

BANDS = ("B02", "B12")
NONE = OffsetDecision({"B02": 0, "B12": 0}, "the configuration: offset=none")
STATED_NONE = replace(NONE, source="MTD_MSIL2A.xml: offset 0", stated_by_metadata=True)
APPLIED = OffsetDecision({"B02": -1000, "B12": -1000}, "MTD_MSIL2A.xml: offset -1000", stated_by_metadata=True)
VALID = np.ones((150, 150), bool)


def content(dark: int, bright: int, seed: int = 0) -> Content:
    pixels = np.random.default_rng(seed).integers(dark, bright, (2, 150, 150), dtype=np.uint16)
    return Content(BANDS, tally(pixels, VALID))


@pytest.mark.parametrize("decision", [NONE, STATED_NONE])
def test_an_offset_that_was_left_in_is_noticed(decision: OffsetDecision) -> None:
    (warning,) = content(1010, 4000).warnings(decision)
    assert "hardly a pixel is darker than 1000 (the darkest hundredth of B" in warning and "offset=-1000" in warning


@pytest.mark.parametrize(
    ("dark", "bright", "where"), [(1500, 4000, "ends at 15"), (4000, 9000, "is brighter than 1990")]
)
def test_an_offset_left_in_a_bright_scene_is_noticed(dark: int, bright: int, where: str) -> None:
    (warning,) = content(dark, bright).warnings(NONE)
    assert where in warning and "offset=none): unless these are clouds or snow, set offset=-1000" in warning


@pytest.mark.parametrize(
    ("dark", "bright", "decision"),
    [
        (10, 3000, NONE),  # an older product
        (1010, 4000, APPLIED),  # bright, but its metadata was believed
        (4000, 9000, STATED_NONE),  # snow or clouds: nothing near 1000, and its metadata has no offset
    ],
)
def test_what_is_right_is_left_alone(dark: int, bright: int, decision: OffsetDecision) -> None:
    assert content(dark, bright).warnings(decision) == []


@pytest.mark.parametrize(("clipped", "warns"), [(0, False), (1, False), (2, True), (40, True)])
def test_a_share_of_clipped_pixels_over_two_per_cent_is_named(clipped: int, warns: bool) -> None:
    pixels = np.random.default_rng(0).integers(2, 4000, (2, 150, 150), dtype=np.uint16)
    # Every third column is looked at, 50 of them: each is 2 %.
    pixels[1, :, : 3 * clipped] = 1
    found = Content(BANDS, tally(pixels, VALID))
    warnings = found.warnings(APPLIED)
    assert len(warnings) == warns
    assert not warns or re.search(rf"0 or less after the offset, and set to 1, in B12 \({2 * clipped} %\)", warnings[0])
    assert found.warnings(NONE) == [], "1 is a number like any other where no offset was applied"


def test_one_dark_band_is_enough_to_be_right() -> None:
    pixels = np.random.default_rng(0).integers(1010, 4000, (2, 150, 150), dtype=np.uint16)
    pixels[1] -= 1000
    found = Content(BANDS, tally(pixels, VALID))
    assert found.warnings(NONE) == []


def test_a_band_of_one_value_is_named() -> None:
    pixels = np.random.default_rng(0).integers(1, 4000, (2, 150, 150), dtype=np.uint16)
    pixels[1] = 7
    halves = (tally(pixels[half], VALID[:75]) for half in (np.s_[:, :75], np.s_[:, 75:]))
    (warning,) = Content(BANDS, add_tallies(*halves)).warnings(NONE)
    assert warning.startswith("B12 is 7 in every pixel")


def test_pixels_that_are_not_valid_do_not_count() -> None:
    pixels = np.full((2, 150, 150), 7, np.uint16)
    pixels[:, 0, 0] = 9
    found = Content(BANDS, tally(pixels, np.zeros_like(VALID)))
    assert found.warnings(NONE) == []


def test_the_brightest_value_fits() -> None:
    found = Content(BANDS, tally(np.full((2, 150, 150), 65535, np.uint16), VALID))
    assert len(found.warnings(NONE)) == 2


def gappy(b02: int, b12: int) -> Content:
    """The content of two bands that have data in these first rows of 150."""
    pixels = np.random.default_rng(0).integers(1, 4000, (2, 150, 150), dtype=np.uint16)
    pixels[0, b02:] = pixels[1, b12:] = 0
    return Content(BANDS, tally(pixels, pixels.all(0)))


def grid(classified: int) -> ProbabilityGrid:
    made = ProbabilityGrid.empty(PatchGrid((150, 150), 10, 10), 3)
    made.patch_states[:] = SKIPPED
    made.patch_states.ravel()[:classified] = CLASSIFIED
    return made


def test_a_band_without_data_is_why_nothing_is_classified() -> None:
    with pytest.raises(
        BenexpError, match=r"no patch can be classified: .* nodata or saturated in B12 \(100 %\): see whether"
    ):
        gappy(150, 0).check(grid(0).classified)
    with pytest.raises(BenexpError, match=r"B02 \(60 %\)"):
        gappy(60, 150).check(grid(0).classified)
    gappy(60, 150).check(grid(1).classified)
    for empty in (gappy(60, 60), gappy(10, 0)):
        empty.check(grid(0).classified)  # masked, or hardly on the tile


def test_a_tile_without_any_data_stops() -> None:
    with pytest.raises(BenexpError, match="there is no data: all pixels are nodata"):
        gappy(0, 0).check(grid(0).classified)


@pytest.mark.parametrize(
    ("b02", "b12", "classified", "warns"),
    [
        (150, 75, 100, r"nodata or saturated in B12 \(50 %\) and get no class"),
        (75, 75, 100, None),  # the edge of a swath
        (75, 72, 100, None),  # where bands end a little apart
        (0, 0, 0, r"^0 of 225 patches are classified: 0 % of the pixels have data, 0 % in all bands"),
        (150, 150, 2, r"^2 of 225 patches .* 100 % of the pixels have data, 100 %"),
    ],
)
def test_what_is_missing_is_told(b02: int, b12: int, classified: int, warns: str | None) -> None:
    found = gappy(b02, b12).gaps(grid(classified))
    assert len(found) == bool(warns)
    assert not warns or re.search(warns, found[0])


def test_patches_that_nobody_asked_for_are_no_gap() -> None:
    asked = grid(100)
    asked.patch_states[asked.patch_states == SKIPPED] = NOT_ASKED
    assert gappy(150, 150).gaps(asked) == []
    asked.patch_states[:] = NOT_ASKED
    asked.patch_states[0, :2] = SKIPPED
    assert gappy(0, 0).gaps(asked)[0].startswith("0 of 2 patches are classified")


@pytest.mark.parametrize(("alike", "classified", "raises"), [(True, 25, True), (False, 25, False), (True, 9, False)])
def test_a_model_that_always_says_the_same(alike: bool, classified: int, raises: bool) -> None:
    made = ProbabilityGrid.empty(PatchGrid((60, 60), 12, 12), 3)
    made.patch_states[:] = SKIPPED
    made.patch_states.ravel()[:classified] = CLASSIFIED
    made.probabilities[made.classified] = 0.25
    if not alike:
        made.probabilities[1, 1, 1] = 0.5
    if raises:
        with pytest.raises(BenexpError, match="it answers the same for all 25 patches"):
            check_answers(made, "it")
    else:
        check_answers(made, "it")


def test_a_tally_counts_every_third_pixel_in_bins_of_ten() -> None:
    pixels = np.zeros((1, 6, 9), np.uint16)
    pixels[0, ::3, ::3] = [[1, 12, 19], [30, 2500, 65535]]
    valid = np.ones((6, 9), bool)
    valid[3, 0] = False
    (made,) = tally(pixels, valid)
    assert made[:6].tolist() == [1, 65535, 6, 6, 0, 1]
    counts = made[6:]
    assert {int(bin): int(counts[bin]) for bin in np.flatnonzero(counts)} == {0: 1, 1: 2, 199: 2}


def test_tallies_are_added_but_for_the_lowest_and_the_highest() -> None:
    first = np.array([[3, 90, 10, 8, 1, 0, 5], [1, 70, 10, 8, 2, 4, 6]])
    second = np.array([[2, 80, 20, 9, 0, 3, 7], [4, 75, 20, 9, 1, 0, 8]])
    expected = [[2, 90, 30, 17, 1, 3, 12], [1, 75, 30, 17, 3, 4, 14]]
    none = np.zeros((0, 0), np.int64)
    assert add_tallies(first, second).tolist() == add_tallies(second, first).tolist() == expected
    assert add_tallies(none, first).tolist() == add_tallies(first, none).tolist() == first.tolist()
    assert add_tallies(none, none).size == 0
    assert first[0].tolist() == [3, 90, 10, 8, 1, 0, 5], "neither is changed"


def test_the_tally_of_two_parts_is_that_of_the_whole() -> None:
    """Cut where a multiple of the step is, or other pixels would be looked at."""
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 150, 150), dtype=np.uint16)
    valid = pixels.all(0)
    parts = [tally(pixels[:, part], valid[part]) for part in (np.s_[:60], np.s_[60:])]
    assert np.array_equal(add_tallies(*parts), tally(pixels, valid))
