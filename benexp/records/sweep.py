"""The report of a sweep: its configurations, each over all its repeats, compared with each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benexp.records.environment import Environment
from benexp.records.figures import Interval, Verdict
from benexp.records.storage import SCHEMA_VERSION
from benexp.records.tile import TileRecord

INTERRUPTED = "it was interrupted"
"""The error of a job that did not fail."""

Setting = Any
"""A value of a user's own backend, or of a wrong configuration: of any type that JSON has."""


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """The speed as a multiple of the reference's, by repeats that both have; see measure/statistics.py."""

    speedup: float
    low: float | None
    high: float | None
    repeats: int
    verdict: str
    """faster, slower, no difference, or undecided."""
    words: str
    """The same as a sentence's part, such as `faster by 1.9x (1.8 to 2.0)`."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One configuration over all its repeats. What could not be measured is null."""

    configuration: str
    """Its name: the settings that differ from the others', as `onnxruntime-cpu, chunk 2048`; unique in the report."""
    overrides: list[str]
    """The same to type: `backend=onnxruntime-cpu`, `chunking.chunk_size=2048`, ..."""
    config_hash: str
    jobs: list[str]
    """Folders of its jobs beneath the report's, by repeat: each has a report.json with everything."""
    status: str
    """done where every repeat is, over all products that did not fail in every job; else failed."""
    repeats: list[int]
    failed: list[int]
    """Those of the repeats that failed."""
    errors: list[str]
    """The reasons, each once."""
    backend: str
    precision: str | None
    device: Setting
    provider: Setting
    batch_size: Setting
    threads: Setting
    """As the backend describes itself, from its name on: not always as asked for."""
    chunk_size: Setting
    seconds: dict[int, float]
    """Over all tiles that are compared, by repeat, of those that did not fail. JSON makes texts of the repeats."""
    median: Interval | None
    """The median of the seconds, with its interval."""
    spread: float | None
    """Standard deviation of the seconds, as a share of the median."""
    stage_seconds: dict[str, float]
    """Median over repeats of each stage's busy seconds, over all tiles and summed over threads."""
    patches: int | None
    km2: float | None
    patches_per_second: Interval | None
    km2_per_second: Interval | None
    ceiling_seconds: Interval | None
    """Seconds of all tiles with the null backend, measured in each repeat: no model can be faster."""
    peak_rss_bytes: int | None
    """The peak of the processes since they started, loading and compiling included."""
    peak_device_memory_bytes: int | None
    memory_bytes: int | None
    """The larger of both peaks: limits and the Pareto front go by it."""
    map_hashes: dict[str, str]
    """By tile."""
    compared: bool
    """True where it answers the reference's question: speeds are compared anyway, maps and the front only then."""
    flips_per_million: float | None
    """Pixels over all tiles whose class is not the reference's; 0 of the reference itself."""
    beyond_ties_per_million: float | None
    """Those of them where the reference's two best classes are further apart than fp32 may be off."""
    prob_diff_max: float | None
    """The largest of any class and pixel, over tiles whose map differs; null where none does."""
    flips_unknown: str | None
    """Why flips are null."""
    against_reference: Speedup | None
    pareto_memory: bool = False
    """True where nothing is both as fast and smaller, or faster and no larger."""
    pareto_flips: bool = False
    """The same of speed and flips."""
    verdicts: list[Verdict]
    """On the spread of its repeats, and those of its runs, each once."""
    problems: list[str]
    """Those of the report's that it is among."""
    left_out: str | None
    """Why it is not recommended; null where it could be."""


@dataclass(frozen=True, kw_only=True)
class ReferenceConfiguration:
    """The configuration that the others are compared with."""

    configuration: str
    config_hash: str
    precision: str | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The sentence for people, and what it says for programs; configurations by their names."""

    sentence: str
    configuration: str | None
    config_hash: str | None
    overrides: list[str]
    nearest: str | None
    """The configuration that comes nearest, where nothing keeps the limits."""
    not_told_apart: list[str]
    """Others that keep the limits and were not measured to be slower, the fastest first."""
    max_memory_gb: float | None
    max_flips_per_million: float | None


@dataclass(frozen=True, kw_only=True)
class OtherEnvironment:
    """An environment that is not the first job's, with the jobs that ran in it."""

    environment: Environment
    jobs: list[str]


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """report.json in the output folder of a sweep; benchmark_report.csv beside it has a row per job and tile."""

    schema_version: int = SCHEMA_VERSION
    status: str
    """done, or failed where a job failed or maps disagree: the exit code is 1 then."""
    environment: Environment
    """That of the first job, and of all that are not under the next key."""
    other_environments: list[OtherEnvironment]
    jobs: list[str]
    configurations: list[Configuration]
    """In the order of the sweep."""
    reference: ReferenceConfiguration | None
    """null where no job with a model was finished."""
    recommendation: Recommended
    problems: list[str]
    """Maps that disagree and must not: to be shown in red."""
    excluded: str | None
    """A sentence on the products that failed in every job, and are not compared."""
    tiles: list[TileRecord]
    """Those of all jobs; a job that failed before it had any is one with an empty name."""


def left_out(configurations: Sequence[Configuration]) -> list[tuple[str, list[str]]]:
    """Each reason not to recommend configurations, with their names; those that differ in numbers only are one."""
    reasons: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for one in configurations:
        if reason := one.left_out:
            alike = re.sub(r"\d[\d.,]*", "#", reason)
            if reasons.setdefault(alike, reason).removesuffix(" (or alike)") != reason:
                reasons[alike] = f"{reasons[alike].removesuffix(' (or alike)')} (or alike)"
            names.setdefault(alike, []).append(one.configuration)
    return [(reasons[alike], found) for alike, found in names.items()]
