"""The report of a sweep as a table for the terminal, with its explanations."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benexp.measure.statistics import interval_words
from benexp.records.sweep import INTERRUPTED, Configuration, SweepReport, left_out

WIDTH = 110


def table(report: SweepReport) -> list[str]:
    """The configurations in aligned columns, no wider than WIDTH, with long names and notes over several lines."""
    rows: list[tuple[str, ...]] = [
        ("configuration", "patches/s", "(95 %)", "memory", "flips/M", "Pareto front", "notes")
    ]
    rows += [_row(one, report) for one in report.configurations]
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


def _wrapped(cell: str, width: int) -> list[str]:
    """Broken behind commas, and elsewhere only where it must be."""
    glued = cell.replace(" ", "\0").replace(",\0", ", ")
    lines = textwrap.wrap(glued, width, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def _row(one: Configuration, report: SweepReport) -> tuple[str, ...]:
    speed, flips = one.patches_per_second, one.flips_per_million
    fronts = [what for what in ("memory", "flips") if getattr(one, f"pareto_{what}")]
    return (
        one.configuration,
        f"{speed.median:.1f}" if speed else "-",
        interval_words(speed) or "",
        f"{one.memory_bytes / 1e9:.2f} GB" if one.memory_bytes is not None else "-",
        "-" if flips is None else f"{flips:,.0f}" if flips >= 100 else f"{flips:.3g}",
        ", ".join(fronts),
        ", ".join(_notes(one, report)),
    )


def _notes(one: Configuration, report: SweepReport) -> list[str]:
    reference = report.reference
    notes = []
    if reference and reference.config_hash == one.config_hash:
        notes.append("reference")
    if report.recommendation.config_hash == one.config_hash:
        notes.append("recommended")
    if one.problems:
        notes.append("MAPS DISAGREE")
    if one.failed:
        what = "interrupted" if one.errors == [INTERRUPTED] else "failed"
        notes.append(what if one.failed == one.repeats else f"{len(one.failed)} of {len(one.repeats)} {what}")
    notes += [verdict.code for verdict in one.verdicts if verdict.severity == "warning"]
    return notes


def red(text: str, stream: Any, environment: Mapping[str, str]) -> str:
    """The text in red where `stream` is a terminal, and the user has not said NO_COLOR."""
    return f"\033[31m{text}\033[0m" if stream.isatty() and not environment.get("NO_COLOR") else text


def explanations(configurations: Sequence[Configuration]) -> list[str]:
    """A line for each reason to leave configurations out, with all that it holds for, and for each sort of warning."""
    warnings: dict[str, list[str]] = {}
    for one in configurations:
        for verdict in one.verdicts:
            if verdict.severity == "warning":
                warnings.setdefault(verdict.code, []).append(verdict.sentence)
    lines = [f"not recommended: {reason}: {'; '.join(names)}" for reason, names in left_out(configurations)]
    for code, sentences in warnings.items():
        alike = f" (or alike: {len(sentences)} configurations)" if len(sentences) > 1 else ""
        lines.append(f"{code}: {sentences[0].removeprefix(f'{code}: ')}{alike}")
    return lines
