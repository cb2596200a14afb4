"""How hard to look: a few examples, the same in every run; or, marked `long`, many, others in every run."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.strategies import SearchStrategy

SEED = "BENEXP_FUZZ_SEED"
"""Set it to the number that a long run printed, to have its examples again."""
TIMES = "BENEXP_FUZZ_TIMES"
"""How many times as many a long run tries."""


@dataclass(frozen=True)
class Effort:
    long: bool

    def tries(self, few: int, strategy: SearchStrategy[Any], holds: Callable[[Any], None]) -> None:
        """See that it holds for so `few` examples, or many times as many.

        A failing example is printed as it was drawn, unshrunk: they are small, and looking for smaller ones is slow.
        """
        number = int(os.environ.get(SEED, random.randrange(1 << 32))) if self.long else 0
        if self.long:
            print(f"{SEED}={number}")
        options = settings(
            max_examples=few * (int(os.environ.get(TIMES, "8")) if self.long else 1),
            derandomize=not self.long,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            verbosity=Verbosity.normal,
            report_multiple_bugs=False,
        )
        test = options(given(strategy)(lambda example: holds(example)))
        (seed(number)(test) if self.long else test)()


EFFORTS = [pytest.param(Effort(False), id="quick"), pytest.param(Effort(True), id="long", marks=pytest.mark.long)]
