"""Recommendations, worked by hand."""

from collections.abc import Sequence
from typing import Any

from benexp.benchmarking.recommendation import Candidate, Limits, Recommendation, recommend


def candidate(name: str, *seconds: float, gb: float | None = 2.0, flips: float | None = 0.0, **more: Any) -> Candidate:
    return Candidate(name, dict(enumerate(seconds, 1)), None if gb is None else gb * 1e9, flips, **more)


TORCH = candidate("torch", 10.0, 10.1, 9.9)
FAST = candidate("onnx", 5.2, 5.4, 5.2, flips=40.0)
"""Times as fast as torch: 1.923, 1.870, 1.904; their logarithms' mean .6413, give or take 4.303 x .0141 / 1.732."""
BIG = candidate("big", 3.0, 3.02, 2.98, gb=8.0)
WRONG = candidate("int8", 2.0, 2.01, 1.99, flips=5000.0)
BROKEN = candidate("broken", 1.0, 1.0, 1.0, refused="its maps disagree")


def best(found: Sequence[Candidate], memory: float | None = None, flips: float | None = None) -> Recommendation:
    return recommend(found, TORCH, Limits(memory, flips))


def test_the_fastest_within_both_limits_with_its_speed_against_the_reference() -> None:
    found = best([TORCH, FAST, BIG, WRONG, BROKEN], 6, 50)
    assert found.sentence == (
        "fastest under 6 GB with at most 50 flipped pixels per million: onnx: 1.9x (1.8 to 2.0) the speed of torch"
    )
    assert (found.best, found.nearest, found.not_told_apart) == ("onnx", None, [])
    assert found.left_out == {
        "big": "8 GB of memory",
        "int8": "5,000 flipped pixels per million",
        "broken": "its maps disagree",
    }


def test_without_limits_the_fastest_is_the_fastest() -> None:
    found = best([TORCH, FAST, BIG, WRONG])
    assert (found.best, found.left_out) == ("int8", {})
    assert found.sentence.startswith("fastest: int8: 5.0")


def test_limits_may_be_met_exactly_and_an_unknown_value_meets_none() -> None:
    assert best([TORCH, FAST], 2, 40).best == "onnx"
    unknown = candidate("u", 1.0, 1.0, 1.0, gb=None, flips=None)
    assert best([TORCH, unknown]).best == "u"
    assert best([TORCH, unknown], 6).left_out == {"u": "its GB of memory are unknown"}
    assert best([TORCH, unknown], None, 6).left_out == {"u": "its flipped pixels per million are unknown"}
    zero = best([TORCH, FAST], None, 0)
    assert (zero.best, zero.sentence.endswith("torch: the reference itself")) == ("torch", True)


def test_what_is_as_fast_is_named() -> None:
    twin = candidate("twin", 5.3, 5.25, 5.31)
    third = candidate("third", 5.1, 5.45, 5.44)
    found = best([TORCH, FAST, twin, third])
    assert found.not_told_apart == ["twin", "third"]
    assert "; no difference measured from twin (" in found.sentence
    assert found.sentence.endswith(", or from 1 more")


def test_one_repeat_tells_nothing_for_sure() -> None:
    found = recommend([candidate("a", 4.0), candidate("b", 5.0)], candidate("b", 5.0), Limits())
    assert found.sentence == (
        "fastest: a: 1.25x the speed of b in the one repeat that was measured; "
        "to be surer, measure 15 repeats on a quiet machine"
    )
    three = recommend([candidate("a", 4.0), candidate("b", 5.0), candidate("c", 6.0)], candidate("b", 5.0), Limits())
    assert "; too few repeats to tell it from c; " in three.sentence
    apart = Candidate("late", {9: 1.0}, None, None)
    assert "no repeat was measured of both it and the reference, torch" in best([TORCH, apart]).sentence


def test_times_that_vary_widely_are_ranked_all_the_same_and_no_more_is_claimed_than_was_measured() -> None:
    torch = candidate("torch", 10.0, 20.0, unstable=0.47)
    wild = candidate("wild", 4.0, 15.0, unstable=0.82)
    other = candidate("other", 12.0, 9.0)
    found = recommend([torch, other, wild], torch, Limits())
    assert (found.best, found.not_told_apart, found.left_out) == ("wild", ["other", "torch"], {})
    # Times torch's speed: 2.5 and 1.333; the ends of the interval are thousands of times apart.
    assert found.sentence == (
        "fastest: wild: not told apart from torch (the interval is too wide); not told apart from other (the "
        "interval is too wide); its 2 runs vary by 82%; to be surer, measure 15 repeats on a quiet machine"
    )


def test_a_reference_that_is_no_slower_is_no_speed_up() -> None:
    found = recommend([TORCH, candidate("same", 9.9, 10.1, 9.9)], TORCH, Limits())
    assert found.sentence.startswith("fastest: same: no difference measured from torch (1.00x")
    assert "quiet machine" not in found.sentence


def test_only_repeats_that_all_have_are_ranked() -> None:
    late = Candidate("late", {1: 9.0, 2: 3.0, 3: 3.0}, None, None)
    assert recommend([late, candidate("early", 8.0)], None, Limits()).best == "early"


def test_where_nothing_fits_the_nearest_is_named() -> None:
    found = best([TORCH, FAST, BIG, WRONG], 1, 10)
    # 2 of 1 GB; 4 times the flips; 8 of 1 GB; 500 times the flips.
    assert (found.best, found.nearest) == (None, "torch")
    assert found.sentence == (
        "nothing fits under 1 GB with at most 10 flipped pixels per million: torch comes nearest (2 GB of memory)"
    )
    # A limit of 0 is infinitely far from any number: the fewest flips are nearest.
    assert best([WRONG, FAST], None, 0).nearest == "onnx"
    assert best([BROKEN], 1).sentence == "nothing can be recommended: every configuration was left out"


def test_no_reference_is_said() -> None:
    assert recommend([FAST], None, Limits()).sentence == "fastest: onnx: there is no reference to compare it with"
