"""What a sweep varies and in how many jobs, as Hydra's sweepers will read it."""

import math
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from benexp.config.hashing import NOT_IN_HASH

REPEAT = "benchmark.repeat"


@dataclass(frozen=True)
class Swept:
    """The keys that jobs differ in, and how many jobs there are to be, at most; None where that cannot be told."""

    keys: frozenset[str] = frozenset()
    jobs: int | None = None

    def words(self, overrides: list[str]) -> str:
        """What tells a job with these overrides from the others: `backend=torch benchmark.repeat=1`."""
        plain = (override.lstrip("+") for override in overrides)
        return " ".join(override for override in plain if override.partition("=")[0] in self.keys)

    def refused(self, task: str) -> str | None:
        """Why this cannot be swept: keys that make no other configuration, so that jobs would share a folder."""
        fit = {"output_folder", {"benchmark": REPEAT, "classify": "tile_folder"}.get(task)}
        wrong = sorted(key for key in self.keys - fit if key.partition(".")[0] in NOT_IN_HASH)
        if not wrong:
            return None
        return (
            f"{', '.join(wrong)}: not to be swept, as jobs that differ in nothing else write to one folder: "
            f"give each value a run and an output_folder of its own"
        )


def swept(hydra: DictConfig) -> Swept:
    """Read from Hydra's own configuration: of a recipe's lists and the command line's, which wins."""
    params = hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in params.items()), *as_given(hydra)]
    try:
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(given)
        varied = [one for one in {one.key_or_group: one for one in parsed}.values() if one.is_sweep_override()]
        keys = frozenset(one.key_or_group for one in varied)
        if trials := hydra.sweeper.get("n_trials"):
            return Swept(keys, int(trials))
        if not all(one.is_discrete_sweep() for one in varied):
            return Swept(keys)
        return Swept(keys, math.prod(sum(1 for _ in one.sweep_string_iterator()) for one in varied))
    except HydraException:
        return Swept()  # the sweeper says what is wrong


def as_given(hydra: Any) -> list[str]:
    """The overrides as they were written: what an interpolation in them comes to is nothing, perhaps."""
    given: Any = OmegaConf.to_container(hydra.overrides.task)
    return list(given)


def put_repeats_outermost(hydra: DictConfig) -> None:
    """Have every configuration take its turn before any has its next, wherever benchmark.repeat was named."""
    named = [text.partition("=")[2] for text in as_given(hydra) if text.partition("=")[0].lstrip("+") == REPEAT]
    params = hydra.sweeper.get("params") or {}
    if not named and REPEAT not in params:
        return
    # The sweeper goes by the first mention of a key for its place, and by the last for its value.
    with read_write(hydra), open_dict(hydra):
        hydra.sweeper.params = OmegaConf.merge({REPEAT: named[-1] if named else None}, params)
