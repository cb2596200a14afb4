"""viewer.html of a benchmark or a sweep: one self-contained page about all its runs."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from benexp.config.command import shell_quoted
from benexp.core.files import replacing
from benexp.measure.statistics import PER_DECADE, compare, interval_words
from benexp.records.environment import Environment
from benexp.records.names import PAGE, PREVIEW, REPORT, TABLE
from benexp.records.report_files import STAGES
from benexp.records.storage import to_dict
from benexp.records.sweep import Configuration, SweepReport, left_out
from benexp.records.tile import DoneTile, TileRecord
from benexp.report import page

STYLES = ("templates/base.css", "templates/benchmark.css")
SCRIPTS = (
    "vendor/plotly/plotly-basic.min.js",
    "templates/tables.js",
    "templates/configurations.js",
    "templates/charts.js",
    "templates/benchmark.js",
)


def write_page(folder: Path, report: SweepReport) -> None:
    """The page about a report, beside it; the tiles' pages and previews are linked where they are there."""
    scripts = [page.script(name) for name in SCRIPTS]
    configurations = [_described(one, report) for one in report.configurations]
    runs = _runs(folder, report)
    html = page.template("benchmark.html.j2").render(
        # Pictures lie in the folders below: a file's own place is not 'self' to every browser.
        policy=f"default-src 'none'; script-src {page.script_hashes(scripts)}; style-src 'unsafe-inline'; "
        "img-src data: blob: 'self' file:",
        styles=page.styles(STYLES),
        scripts=scripts,
        title=folder.resolve().name,
        report=report,
        configurations=configurations,
        runs=runs,
        backends=list(dict.fromkeys(one.backend for one in report.configurations)),
        verdicts=_grouped(report.configurations),
        overrides=" ".join(map(shell_quoted, report.recommendation.overrides)),
        left_out=left_out(report.configurations),
        environments=_environments(report),
        files=[TABLE, REPORT],
        data={
            "configurations": configurations,
            "runs": [{key: run[key] for key in ("configuration", "tile", "repeat", *_DRAWN)} for run in runs],
            "pairs": _pairs(report.configurations),
            "stages": STAGES,
            "per_decade": PER_DECADE,
            "recommended": _index(report, report.recommendation.config_hash),
            "reference": _index(report, report.reference.config_hash if report.reference else None),
            "limits": {key: getattr(report.recommendation, key) for key in ("max_memory_gb", "max_flips_per_million")},
        },
    )
    with replacing(folder / PAGE) as temporary:
        temporary.write_bytes(page.encoded(html))


_DRAWN = ("latencies", "over_time", "latency_seconds")
"""The parts of each run that the charts need."""
_LINES = ("seconds", "rss_bytes")
_SHOWN = (
    *("tile", "repeat", "status", "error", "reused", "seconds", "patches_per_second", "km2_per_second", "batches"),
    *("latency_seconds", "verdicts", "peak_rss_bytes", "viewer", "preview"),
)
"""The parts of each run that the table needs; a failed one has not all of them."""


def _index(report: SweepReport, config_hash: str | None) -> int | None:
    hashes = [one.config_hash for one in report.configurations]
    return hashes.index(config_hash) if config_hash is not None else None


def _described(one: Configuration, report: SweepReport) -> dict[str, Any]:
    """The parts of a configuration that the page shows: all that the report has, and some of it in words."""
    known = to_dict(one)
    fronts = [name for name in ("memory", "flips") if getattr(one, f"pareto_{name}")]
    reference = report.reference
    return {
        **known,
        "is_reference": bool(reference and reference.config_hash == one.config_hash),
        "is_recommended": report.recommendation.config_hash == one.config_hash,
        "fronts": fronts,
        "interval": interval_words(one.patches_per_second),
        "warnings": [verdict for verdict in known["verdicts"] if verdict["severity"] == "warning"],
    }


def _runs(folder: Path, report: SweepReport) -> list[dict[str, Any]]:
    """A run per configuration, repeat and tile, with links relative to `folder`; those that failed, too."""
    of = {one.config_hash: i for i, one in enumerate(report.configurations)}
    return [_run(tile, of[tile.config_hash], report, folder) for tile in report.tiles]


def _run(tile: TileRecord, number: int, report: SweepReport, folder: Path) -> dict[str, Any]:
    one = report.configurations[number]
    # A sweep's jobs lie in folders named by the repeat; a benchmark alone is in the report's own.
    job = next((place for place in one.jobs if place == "." or Path(place).name == str(tile.repeat)), ".")
    known = {"configuration": number, "name": one.configuration, "backend": one.backend}
    known |= {key: getattr(tile, key, None) for key in _SHOWN}
    if not isinstance(tile, DoneTile):
        return {**known, "latency_seconds": {}, "latencies": {}, "over_time": {}, "verdicts": []}
    place = Path(job) / tile.folder
    return known | {
        "peak_rss_bytes": tile.usage.peak_rss_bytes,
        "latencies": tile.latency_histogram,
        "over_time": {key: tile.usage.over_time[key] for key in _LINES},
        "viewer": _link(folder, place / PAGE),
        "preview": _link(folder, place / PREVIEW),
    }


def _link(folder: Path, place: Path) -> str | None:
    """Relative, as it goes into a page; None where there is no such file."""
    return f"./{page.address(place)}" if (folder / place).exists() else None


def _pairs(every: Sequence[Configuration]) -> list[tuple[int, int, str, str]]:
    """Comparisons of configurations, by their places, over the repeats that both have: verdict, words."""
    found: list[tuple[int, int, str, str]] = []
    for (i, one), (j, other) in permutations(enumerate(every), 2):
        if one.seconds.keys() & other.seconds.keys():
            compared = compare(one.seconds, other.seconds)
            found.append((i, j, compared.verdict, str(compared)))
    return found


def _grouped(every: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Each sort of verdict, warnings first, with a sentence for each configuration that has it."""
    found: dict[str, dict[str, Any]] = {}
    for one in every:
        for verdict in one.verdicts:
            group = found.setdefault(verdict.code, {"severity": verdict.severity, "said": []})
            sentence = verdict.sentence.removeprefix(f"{verdict.code}: ")
            group["said"].append((one.configuration, sentence))
    return sorted(found.values(), key=lambda group: group["severity"] != "warning")


def _environments(report: SweepReport) -> list[tuple[str, list[str]]]:
    """The machine and the software of the runs, as labels with a value, or with several where they differ."""
    every = [report.environment, *(other.environment for other in report.other_environments)]
    tables = [dict(_environment(facts)) for facts in every]
    labels = dict.fromkeys(label for table in tables for label in table)
    found = {label: [table.get(label, "none") for table in tables] for label in labels}
    machines = len({facts["machine"] for facts in every})
    several = [("Machines", [f"{machines} of them"])] if machines > 1 else []
    return [*several, *((label, list(dict.fromkeys(values))) for label, values in found.items())]


def _environment(facts: Environment) -> list[tuple[str, str]]:
    """The machine and the software, as (label, value)."""
    quota, limit = facts["cpu_quota"], facts["memory_limit_gb"]
    gpus = ", ".join(gpu["name"] for gpu in facts["gpus"])
    known = [
        ("Processor", facts["processor"]),
        ("Cores", f"{facts['cores']} of {facts['machine_cores']}{f', quota {quota:g}' if quota else ''}"),
        ("Memory", f"{facts['memory_gb']:g} GB{f', limited to {limit:g} GB' if limit else ''}"),
        ("GPU", f"{gpus}, driver {facts['gpu_driver'] or 'unknown'}" if gpus else "none"),
        ("System", facts["os"] or facts["system"]),
        ("Python", facts["python"]),
        ("benexp", f"{facts['benexp']}{f', commit {revision}' if (revision := facts['git_revision']) else ''}"),
        *sorted(facts["libraries"].items()),
    ]
    return [(label, str(value)) for label, value in known]
