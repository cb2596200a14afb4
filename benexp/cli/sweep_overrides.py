"""The overrides that a sweep varies, read in the way of Hydra's sweepers."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from benexp.config.hashing import NOT_IN_HASH

REPEAT = "benchmark.repeat"


@dataclass(frozen=True)
class SweepOverrides:
    """The keys in which the jobs of a sweep differ, and the largest number of jobs; None where that is unknown."""

    keys: frozenset[str] = frozenset()
    jobs: int | None = None

    def swept_among(self, overrides: Sequence[str]) -> str:
        """The overrides of a job that other jobs do not share: `backend=torch benchmark.repeat=1`."""
        plain = (override.lstrip("+") for override in overrides)
        return " ".join(override for override in plain if override.partition("=")[0] in self.keys)

    def refusal(self, task: str) -> str | None:
        """The message to refuse a sweep over keys that make no other configuration: its jobs would share a folder."""
        fit = {"output_folder", {"benchmark": REPEAT, "classify": "tile_folder"}.get(task)}
        wrong = sorted(key for key in self.keys - fit if key.partition(".")[0] in NOT_IN_HASH)
        if not wrong:
            return None
        return (
            f"{', '.join(wrong)}: not to be swept, as jobs that differ in nothing else write to one folder: "
            f"give each value a run and an output_folder of its own"
        )


def sweep_overrides(hydra: DictConfig) -> SweepOverrides:
    """The overrides in Hydra's own configuration: those of a recipe, and those of the command line, which win."""
    try:
        parsed = _parsed(hydra)
        varied = [one for one in {one.key_or_group: one for one in parsed}.values() if one.is_sweep_override()]
        keys = frozenset(one.key_or_group for one in varied)
        if trials := hydra.sweeper.get("n_trials"):
            return SweepOverrides(keys, int(trials))
        if not all(one.is_discrete_sweep() for one in varied):
            return SweepOverrides(keys)
        return SweepOverrides(keys, math.prod(sum(1 for _ in one.sweep_string_iterator()) for one in varied))
    except HydraException:
        return SweepOverrides()  # the sweeper says what is wrong


def grid_jobs(config: DictConfig) -> Iterator[tuple[list[str], DictConfig]]:
    """The overrides and the composed configuration of each job of a grid; nothing for other sweepers.

    `config` is composed with Hydra's own part. Ends early where a job cannot be composed: the sweeper says why.
    """
    if not config.hydra.sweeper["_target_"].endswith(".BasicSweeper"):
        return
    loader = GlobalHydra.instance().config_loader()
    with suppress(HydraException, OmegaConfBaseException):
        for overrides in chain(*BasicSweeper.split_arguments(_parsed(config.hydra), None)):
            composed = loader.load_sweep_config(config, list(overrides))
            with read_write(composed), open_dict(composed):
                del composed["hydra"]
            yield list(overrides), composed


def _parsed(hydra: DictConfig) -> list[Override]:
    params = hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in params.items()), *given_overrides(hydra)]
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(given)


def given_overrides(hydra: Any) -> list[str]:
    """The overrides as they were written, with interpolations, which may not resolve."""
    given: Any = OmegaConf.to_container(hydra.overrides.task)
    return list(given)


def put_repeats_outermost(hydra: DictConfig) -> None:
    """Make benchmark.repeat the outermost loop: every configuration runs once before any runs again."""
    named = [text.partition("=")[2] for text in given_overrides(hydra) if text.partition("=")[0].lstrip("+") == REPEAT]
    params = hydra.sweeper.get("params") or {}
    if not named and REPEAT not in params:
        return
    # The sweeper goes by the first mention of a key for its place, and by the last for its value.
    with read_write(hydra), open_dict(hydra):
        hydra.sweeper.params = OmegaConf.merge({REPEAT: named[-1] if named else None}, params)
