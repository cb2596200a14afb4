"""The report of a comparison: its record, the figures beside the picture, and the table for the terminal."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benexp.core.classes import named
from benexp.mapping.differences import Differences
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.pipeline import Rendered
from benexp.records.comparison import AreaChange, BackendComparison, ClassChange, ComparisonRecord
from benexp.records.names import COMPARISON
from benexp.report.flips import frequent_changes
from benexp.runs.backend_list import Entry

log = logging.getLogger("benexp")

ROUGH = 5
"""Seconds of inference below which a speed may be off by a third."""


@dataclass
class Ran:
    """The result of one backend on the tile, and its times."""

    grid: ProbabilityGrid
    rendered: Rendered
    about: dict[str, Any]
    open_seconds: float
    seconds: float
    infer_seconds: float

    @property
    def patches_per_second(self) -> float:
        return int(self.grid.classified.sum()) / self.infer_seconds


def describe(
    entry: Entry, ran: Ran, reference: Ran, found: Differences, class_names: tuple[str, ...], pixel_area: float
) -> BackendComparison:
    """The part of the record about one backend."""
    change = (ran.rendered.pixels - reference.rendered.pixels).tolist()
    return BackendComparison(
        label=entry.label,
        precision=ran.about["precision"],
        describe=ran.about,
        settings=dict(entry.backend.settings),
        patches_per_second=round(ran.patches_per_second, 3),
        speed_ratio=round(ran.patches_per_second / reference.patches_per_second, 4),
        open_seconds=round(ran.open_seconds, 3),
        seconds=round(ran.seconds, 3),
        infer_seconds=round(ran.infer_seconds, 3),
        map_hash=ran.rendered.map_hash,
        flips_per_million=found.flips_per_million,
        beyond_ties_per_million=found.beyond_ties_per_million,
        tie_tolerance=found.tolerance,
        prob_diff_max=found.prob_diff_max,
        prob_diff_mean=found.prob_diff_mean,
        prob_diff_p99=found.prob_diff_p99,
        area_change=[
            AreaChange(c.id, c.name, pixels * pixel_area / 10_000, pixels / found.pixels)
            for c, pixels in zip(named(class_names), change, strict=True)
        ],
        flips=[ClassChange(class_names[old], class_names[new], pixels) for old, new, pixels in frequent_changes(found)],
    )


def notes_on(backends: Sequence[BackendComparison]) -> list[str]:
    """Notes on the figures, which are logged as warnings, too."""
    reference = backends[0]
    notes = []
    if reference.precision != "fp32":
        notes.append(f"the reference, {reference.label}, is {reference.precision}: nothing is compared with fp32")
    notes += [f"{b.label} ran on {fallback}" for b in backends if (fallback := b.describe.get("fallback"))]
    for note in notes:
        log.warning("%s", note)
    return notes


def figures_of(backend: BackendComparison) -> list[tuple[str, str]]:
    """Name and value of the figures in the picture of one backend."""
    return [
        ("Flips per million pixels", _number(backend.flips_per_million)),
        ("... beyond ties", _number(backend.beyond_ties_per_million)),
        ("Largest probability difference", f"{backend.prob_diff_max:.2g}"),
        ("... of 99 % of the pixels", f"{backend.prob_diff_p99:.2g}"),
        ("... on average", f"{backend.prob_diff_mean:.2g}"),
        ("Patches per second", _number(backend.patches_per_second)),
        ("... times the reference's", f"{backend.speed_ratio:.2f}"),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def summarise(folder: Path, record: ComparisonRecord, say: Callable[[str], object]) -> None:
    """Print the table and the names of the files."""
    head = (
        "backend",
        "precision",
        "batch",
        "patches/s",
        "ratio",
        "flips/million",
        "beyond ties",
        "max diff",
        "p99 diff",
    )
    rows = [head]
    for i, b in enumerate(record.backends):
        speed = (f"{b.patches_per_second:.1f}", f"{b.speed_ratio:.2f}")
        flips = (_number(b.flips_per_million), _number(b.beyond_ties_per_million))
        parity = (*flips, f"{b.prob_diff_max:.1e}", f"{b.prob_diff_p99:.1e}") if i else ("reference", "", "", "")
        rows.append((b.label, b.precision, str(b.describe["batch_size"]), *speed, *parity))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
    if (shortest := min(b.infer_seconds for b in record.backends)) < ROUGH:
        say(f"speeds are rough: {shortest:.1f} s of inference is little to go by")
    say(f"{record.tile}: {record.compared_pixels:,} pixels compared in {record.seconds:.1f} s")
    say(f"written to {folder}:")
    for name in (*record.files, COMPARISON):
        say(f"  {name}")
