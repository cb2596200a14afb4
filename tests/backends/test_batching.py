import pytest

from benexp.backends.batching import LIMIT, START, choose_batch


def test_doubles_until_the_gain_is_small() -> None:
    speeds = {4: 10.0, 8: 19.0, 16: 19.9, 32: 40.0}
    # 16 gains 4.7 %: that 32 would gain more is never found out.
    assert choose_batch(speeds.get) == (8, {4: 10.0, 8: 19.0, 16: 19.9})


def test_five_percent_is_enough_to_go_on() -> None:
    assert choose_batch({4: 100.0, 8: 105.0, 16: 105.0}.get)[0] == 8


def test_the_end_of_memory_ends_it() -> None:
    assert choose_batch({4: 10.0, 8: 20.0}.get) == (8, {4: 10.0, 8: 20.0, 16: None})


def test_too_little_memory_for_the_first_size() -> None:
    assert choose_batch(lambda size: None) == (1, {START: None})


def test_it_ends() -> None:
    chosen, rates = choose_batch(float)
    assert chosen == LIMIT == max(rates)


@pytest.mark.parametrize("speed", [9.0, 10.0])
def test_no_gain_at_all(speed: float) -> None:
    assert choose_batch({4: 10.0, 8: speed}.get)[0] == 4
