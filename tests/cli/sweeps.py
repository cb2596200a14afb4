"""Outcomes of jobs, and jobs that only pretend to work."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benexp.core.errors import BenexpError
from benexp.records.job_outcome import JobOutcome, read_outcomes
from benexp.records.tile import DoneTile
from tests.records.builders import done_tile


def outcomes(out: Path) -> list[JobOutcome]:
    """The outcomes of the jobs of the last sweep, in order."""
    last = max((path for path in (out / "hydra").iterdir() if path.name[0].isdecimal()), key=os.path.getmtime)
    return read_outcomes(last)


class Speeds(dict[int, float]):
    """Stands in for what jobs do: chunk sizes have these speeds; those that are not here fail."""

    def __call__(self, composed: DictConfig, *_: Any, **__: Any) -> list[DoneTile]:
        if (speed := self.get(composed.chunking.chunk_size)) is None:
            raise BenexpError("not today")
        return [done_tile(patches=3, seconds=2 / speed), done_tile(patches=5, seconds=6 / speed)]
