"""The Pareto front, worked by hand."""

from benexp.benchmarking.pareto import front


def test_what_is_beaten_in_both_respects_is_not_on_the_front() -> None:
    # Speed and memory: the second is slower and larger than the first, the third slower and smaller.
    assert front([(10, 4), (8, 5), (5, 1)]) == [True, False, True]
    # As fast and larger; faster and no larger.
    assert front([(10, 4), (10, 5)]) == [True, False]
    assert front([(10, 4), (11, 4)]) == [False, True]


def test_equals_are_on_it_together_and_what_lacks_a_value_is_not() -> None:
    assert front([(10, 4), (10, 4), (9, 4)]) == [True, True, False]
    assert front([(10, None), (None, 0), (1, 9)]) == [False, False, True]
    assert front([]) == []
    assert front([(None, None)]) == [False]


def test_zero_is_a_value() -> None:
    assert front([(10, 0), (12, 30), (9, 0)]) == [True, True, False]
