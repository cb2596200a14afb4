"""A sweep's charts for papers, as PNG and SVG; matplotlib draws them, which not everybody has."""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.core.files import replacing
from benexp.records.report_files import STAGES
from benexp.records.sweep import Configuration, SweepReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger("benexp")

FOLDER = "plots"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7f7f7f", "#a6761d")
"""Okabe and Ito's, which the colour-blind tell apart."""
MARKERS = "osD^vP*X"
WIDTH = 7.0
"""Inches: a page's."""


def write_plots(folder: Path, report: SweepReport) -> list[Path]:
    """Write `plots/` beside the report, if matplotlib is there and anything was measured; what was written."""
    if importlib.util.find_spec("matplotlib") is None:
        log.info("no plots for papers are drawn: that takes matplotlib (pip install 'benexp[report]')")
        return []
    measured = [one for one in report.configurations if one.patches_per_second]
    drawings: dict[str, Callable[[Sequence[Configuration], SweepReport], Figure]] = {"stages": _stages}
    if len(measured) > 1:
        drawings |= {"throughput": _throughput, "pareto": _pareto}
    return [file for name, draw in drawings.items() if measured for file in _save(folder, name, draw(measured, report))]


def _save(folder: Path, name: str, figure: "Figure") -> list[Path]:
    from matplotlib import rc_context

    (folder / FOLDER).mkdir(exist_ok=True)
    files = [folder / FOLDER / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in files:
        # Letters stay letters, and the same report gives the same bytes.
        with replacing(path) as temporary, rc_context({"svg.fonttype": "none", "svg.hashsalt": "benexp"}):
            metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(temporary, format=path.suffix[1:], dpi=300, metadata=metadata)
    return files


def _axes(height: float, count: int = 1) -> tuple["Figure", Sequence["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    found = figure.subplots(1, count, squeeze=False)[0]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, found


def _looks(measured: Sequence[Configuration]) -> Mapping[str, tuple[str, str]]:
    """Colour and marker of each backend and precision."""
    kinds = dict.fromkeys(map(_kind, measured))
    return {kind: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, kind in enumerate(kinds)}


def _kind(one: Configuration) -> str:
    return ", ".join(filter(None, (one.backend, one.precision)))


def _throughput(measured: Sequence[Configuration], report: SweepReport) -> "Figure":
    """Medians with their intervals, which are cut off where they are longer than the axis."""
    figure, (axes,) = _axes(1 + 0.3 * len(measured))
    looks = _looks(measured)
    for row, one in enumerate(measured):
        speed = one.patches_per_second
        assert speed
        axes.barh(row, speed.median, color=looks[_kind(one)][0], height=0.65)
        if speed.low is not None and speed.high is not None:
            around = [[speed.median - speed.low], [speed.high - speed.median]]
            axes.errorbar(speed.median, row, xerr=around, color="black", linewidth=0.8, capsize=2)
    axes.set_xlim(0, 1.2 * max(map(_speed, measured)))
    axes.set_xlabel("patches/s (median, 95 % interval)")
    _name_rows(axes, measured)
    return figure


def _pareto(measured: Sequence[Configuration], report: SweepReport) -> "Figure":
    """Speed against memory and against flips; what is on a front is filled, what is recommended ringed."""
    figure, both = _axes(3.4, 2)
    looks = _looks(measured)
    best = report.recommendation.config_hash
    sides = (
        ("memory_bytes", "pareto_memory", 1e9, "memory, GB"),
        ("flips_per_million", "pareto_flips", 1.0, "other pixels, per million"),
    )
    for axes, (field, mark, unit, label) in zip(both, sides, strict=True):
        known = [(one, cost / unit) for one in measured if one.compared and (cost := getattr(one, field)) is not None]
        front = sorted((cost, _speed(one)) for one, cost in known if getattr(one, mark))
        costs, speeds = zip(*front, strict=True) if front else ((), ())
        axes.step(costs, speeds, where="post", color="#888888", linestyle=":", zorder=1)
        for one, cost in known:
            colour, marker = looks[_kind(one)]
            face = colour if getattr(one, mark) else "none"
            axes.plot(cost, _speed(one), marker, color=colour, markerfacecolor=face, markersize=7)
            if one.config_hash == best:
                axes.plot(cost, _speed(one), "o", color="black", markerfacecolor="none", markersize=13)
        axes.set_xlabel(label)
        most = max((cost for _, cost in known), default=0) or 10
        axes.set_xlim(-0.04 * most, 1.1 * most)
        axes.set_ylim(0, 1.15 * max(map(_speed, measured)))
    both[0].set_ylabel("patches/s")
    for kind, (colour, marker) in looks.items():
        both[0].plot([], [], marker, color=colour, label=kind)
    both[0].plot([], [], "o", color="black", markerfacecolor="none", markersize=11, label="recommended")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def _stages(measured: Sequence[Configuration], report: SweepReport) -> "Figure":
    """Busy seconds, summed over threads, and the time by the clock."""
    figure, (axes,) = _axes(1.3 + 0.3 * len(measured))
    shown = [stage for stage in STAGES if any(one.stage_seconds.get(stage) for one in measured)]
    for row, one in enumerate(measured):
        left = 0.0
        for stage in shown:
            took = one.stage_seconds.get(stage, 0.0)
            axes.barh(row, took, left=left, color=COLOURS[STAGES.index(stage)], height=0.65)
            left += took
        assert one.median
        axes.plot(one.median.median, row, "|", color="black", markersize=14, markeredgewidth=2)
    for stage in shown:
        axes.barh(0, 0, color=COLOURS[STAGES.index(stage)], label=stage)
    axes.plot([], [], "|", color="black", markersize=10, markeredgewidth=2, label="by the clock")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds busy, summed over threads")
    _name_rows(axes, measured)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    return figure


def _speed(one: Configuration) -> float:
    assert one.patches_per_second
    return one.patches_per_second.median


def _name_rows(axes: "Axes", measured: Sequence[Configuration]) -> None:
    # A dollar would begin a formula.
    names = [one.configuration.replace("$", r"\$") for one in measured]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
