"""Busy seconds by stage."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from benexp.core.clocks import StageClocks


def test_seconds_add_up_over_threads() -> None:
    clocks = StageClocks()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: clocks.add("infer", 0.25), range(400)))
    assert clocks.rounded() == {"infer": 100.0}


def test_a_stage_counts_even_when_it_fails() -> None:
    clocks = StageClocks()
    with pytest.raises(ZeroDivisionError), clocks.stage("read"):
        raise ZeroDivisionError
    assert clocks.seconds["read"] > 0
