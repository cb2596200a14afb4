"""What the joint report of a sweep holds, for programs (`report.json`) and as a table for the terminal."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from benexp.measure.statistics import is_wide

WIDTH = 110
INTERRUPTED = "it was interrupted"
"""The error of a job that did not fail."""


class Interval(TypedDict):
    """A median and the interval that holds the true one at 95 %; without two samples there is none."""

    median: float
    low: float | None
    high: float | None
    samples: int


class Speedup(TypedDict):
    """How many times as fast as the reference, by repeats that both have; see measure/statistics.py."""

    speedup: float
    low: float | None
    high: float | None
    repeats: int
    verdict: str
    """faster, slower, no difference, or undecided."""
    words: str
    """The same as a sentence's part, such as `faster by 1.9x (1.8 to 2.0)`."""


class Configuration(TypedDict):
    """One configuration over all its repeats. What could not be measured is null."""

    configuration: str
    """What tells it from the others, for people: `onnxruntime-cpu, chunk 2048, batch 32`. Unique in the report."""
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
    """Why they did, each reason once."""
    backend: str
    precision: str | None
    device: str | None
    provider: str | None
    batch_size: int | None
    threads: int | None
    """What ran, which may be another than was asked for."""
    chunk_size: int | None
    seconds: dict[int, float]
    """Over all tiles that are compared, by repeat, of those that did not fail. JSON makes texts of the repeats."""
    median: Interval | None
    """Of the seconds."""
    spread: float | None
    """Of the seconds: standard deviation as a share of the median."""
    stage_seconds: dict[str, float]
    """Median over repeats of each stage's busy seconds, over all tiles and summed over threads."""
    patches: int | None
    km2: float | None
    patches_per_second: Interval | None
    km2_per_second: Interval | None
    ceiling_seconds: Interval | None
    """What all tiles took with the null backend, measured in each repeat: no model can be faster."""
    peak_rss_bytes: int | None
    """Of the processes since they started, loading and compiling included."""
    peak_device_memory_bytes: int | None
    memory_bytes: int | None
    """The larger of both peaks: what limits and the Pareto front go by."""
    map_hashes: dict[str, str]
    """By tile."""
    compared: bool
    """Whether it answers the reference's question: speeds are compared anyway, maps and the front only then."""
    flips_per_million: float | None
    """Pixels over all tiles whose class is not the reference's; 0 of the reference itself."""
    beyond_ties_per_million: float | None
    """Those of them where the reference's two best classes are further apart than fp32 may be off."""
    prob_diff_max: float | None
    """The largest of any class and pixel, over tiles whose map differs; null where none does."""
    flips_unknown: str | None
    """Why flips are null."""
    against_reference: Speedup | None
    pareto_memory: bool
    """Whether nothing is both as fast and smaller, or faster and no larger."""
    pareto_flips: bool
    """The same of speed and flips."""
    verdicts: list[dict[str, Any]]
    """code, severity and sentence: of the spread of its repeats, and what its runs had to say, each once."""
    problems: list[str]
    """Those of the report's that it is among."""
    left_out: str | None
    """Why it is not recommended; null where it could be."""


class Reference(TypedDict):
    """What the others are compared with."""

    configuration: str
    config_hash: str
    precision: str | None
    why: str


class Recommended(TypedDict):
    """The sentence for people, and what it says for programs; configurations by their names."""

    sentence: str
    configuration: str | None
    config_hash: str | None
    overrides: list[str]
    nearest: str | None
    """Where nothing keeps the limits."""
    not_told_apart: list[str]
    """What else keeps the limits and was not measured to be slower, the fastest first."""
    max_memory_gb: float | None
    max_flips_per_million: float | None


class OtherEnvironment(TypedDict):
    """An environment that is not the first job's, with the jobs that ran in it."""

    environment: dict[str, Any]
    jobs: list[str]


class JointReport(TypedDict):
    """report.json in the output folder of a sweep; benchmark_report.csv beside it has a row per job and tile."""

    status: str
    """done, or failed where a job failed or maps disagree: the exit code is 1 then."""
    environment: dict[str, Any]
    """That of the first job, and of all that are not under the next key."""
    other_environments: list[OtherEnvironment]
    jobs: list[str]
    configurations: list[Configuration]
    """In the order of the sweep."""
    reference: Reference | None
    """null where no job with a model was finished."""
    recommendation: Recommended
    problems: list[str]
    """Maps that disagree and must not: to be shown in red."""
    excluded: str | None
    """Over how many products configurations are compared, where others failed in every job, which, and why."""
    tiles: list[dict[str, Any]]
    """Of all jobs; a job that failed before it had any is one with an empty name."""


def table(report: JointReport) -> list[str]:
    """The configurations in aligned columns, no wider than WIDTH, with long names and notes over several lines."""
    rows: list[tuple[str, ...]] = [
        ("configuration", "patches/s", "(95 %)", "memory", "flips/M", "Pareto front", "notes")
    ]
    rows += [_row(one, report) for one in report["configurations"]]
    figures = [max(len(row[column]) for row in rows) for column in range(1, 6)]
    left = WIDTH - sum(figures) - 2 * 6
    names, notes = (max(len(row[column]) for row in rows) for column in (0, 6))
    if names + notes > left:
        notes = min(notes, max(left - names, left // 3))
        names = left - notes
    widths = (names, *figures, notes)
    lines = []
    for row in rows:
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for index in range(max(map(len, cells))):
            parts = (cell[index] if index < len(cell) else "" for cell in cells)
            aligned = (
                f"{part:>{width}}" if 1 <= column <= 4 else f"{part:<{width}}"
                for column, (part, width) in enumerate(zip(parts, widths, strict=True))
            )
            lines.append("  ".join(aligned).rstrip())
    return lines


def interval(found: Interval | None) -> str | None:
    """Such as `47.6 to 52.6`; None where there is none."""
    if found is None or found["low"] is None or found["high"] is None:
        return None
    return "too wide" if is_wide(found["low"], found["high"]) else f"{found['low']:.1f} to {found['high']:.1f}"


def _wrapped(cell: str, width: int) -> list[str]:
    """Broken behind commas, and elsewhere only where it must be."""
    glued = cell.replace(" ", "\0").replace(",\0", ", ")
    lines = textwrap.wrap(glued, width, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def _row(one: Configuration, report: JointReport) -> tuple[str, ...]:
    speed, flips = one["patches_per_second"], one["flips_per_million"]
    fronts = [what for what in ("memory", "flips") if one[f"pareto_{what}"]]  # type: ignore[literal-required]
    return (
        one["configuration"],
        f"{speed['median']:.1f}" if speed else "-",
        interval(speed) or "",
        f"{one['memory_bytes'] / 1e9:.2f} GB" if one["memory_bytes"] is not None else "-",
        "-" if flips is None else f"{flips:,.0f}" if flips >= 100 else f"{flips:.3g}",
        ", ".join(fronts),
        ", ".join(_notes(one, report)),
    )


def _notes(one: Configuration, report: JointReport) -> list[str]:
    reference = report["reference"]
    notes = []
    if reference and reference["config_hash"] == one["config_hash"]:
        notes.append("reference")
    if report["recommendation"]["config_hash"] == one["config_hash"]:
        notes.append("recommended")
    if one["problems"]:
        notes.append("MAPS DISAGREE")
    if one["failed"]:
        what = "interrupted" if one["errors"] == [INTERRUPTED] else "failed"
        notes.append(
            what if one["failed"] == one["repeats"] else f"{len(one['failed'])} of {len(one['repeats'])} {what}"
        )
    notes += [verdict["code"] for verdict in one["verdicts"] if verdict["severity"] == "warning"]
    return notes


def red(text: str, stream: Any, environment: Mapping[str, str]) -> str:
    """The text in red where `stream` is a terminal, and the user has not said NO_COLOR."""
    return f"\033[31m{text}\033[0m" if stream.isatty() and not environment.get("NO_COLOR") else text


def left_out(configurations: Sequence[Configuration]) -> list[tuple[str, list[str]]]:
    """Each reason not to recommend configurations, with their names; those that differ in numbers only are one."""
    reasons: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for one in configurations:
        if reason := one["left_out"]:
            alike = re.sub(r"\d[\d.,]*", "#", reason)
            if reasons.setdefault(alike, reason).removesuffix(" (or alike)") != reason:
                reasons[alike] = f"{reasons[alike].removesuffix(' (or alike)')} (or alike)"
            names.setdefault(alike, []).append(one["configuration"])
    return [(reasons[alike], found) for alike, found in names.items()]


def explanations(configurations: Sequence[Configuration]) -> list[str]:
    """A line for each reason to leave configurations out, with all that it holds for, and for each sort of warning."""
    warnings: dict[str, list[str]] = {}
    for one in configurations:
        for verdict in one["verdicts"]:
            if verdict["severity"] == "warning":
                warnings.setdefault(verdict["code"], []).append(verdict["sentence"])
    lines = [f"not recommended: {reason}: {'; '.join(names)}" for reason, names in left_out(configurations)]
    for code, sentences in warnings.items():
        alike = f" (or alike: {len(sentences)} configurations)" if len(sentences) > 1 else ""
        lines.append(f"{code}: {sentences[0].removeprefix(f'{code}: ')}{alike}")
    return lines
