"""The page at the start of a served folder: its tiles and benchmarks, with links to what there is of them."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benexp.core.errors import BenexpError
from benexp.records.names import REPORT, RUN
from benexp.records.report_files import read_report
from benexp.records.run import RunRecord
from benexp.records.storage import read_record
from benexp.records.sweep import SweepReport
from benexp.report import page

Files = dict[str, tuple[str, str]]
"""Links and sizes by name."""


@dataclass(frozen=True)
class Result:
    """A folder with results: of a tile, of a benchmark, or of a sweep, whose jobs are held by their configurations."""

    name: str
    facts: str
    files: Files
    tiles: Sequence["Result"] = ()
    """Those of a job."""
    configurations: Mapping[str, Sequence["Result"]] = field(default_factory=dict)


def start_page(folder: Path) -> bytes:
    """The page about all results below `folder` as they are now."""
    tiles: dict[Path, Result] = {}
    benchmarks: dict[Path, Result] = {}
    sweeps: dict[Path, dict[str, list[Path]]] = {}
    for place, files in _folders(folder):
        inside = place.relative_to(folder)
        name = str(inside) if inside.parts else folder.resolve().name
        if RUN in files:
            tiles[inside] = Result(name, _facts(place / RUN), files)
        if REPORT in files:
            benchmarks[inside] = Result(name, "", files)
            try:
                report = read_report(place / REPORT)
            except BenexpError as error:
                benchmarks[inside] = Result(name, str(error).removeprefix(f"{place}/"), files)
                continue
            except OSError:  # it is gone, or may not be read
                continue
            if isinstance(report, SweepReport):
                sweeps[inside] = {
                    one.configuration: [inside / job for job in one.jobs] for one in report.configurations
                }
    for sweep, configurations in sweeps.items():
        benchmarks[sweep] = _folded(benchmarks[sweep], configurations, benchmarks, tiles)
    html = page.template("start_page.html.j2").render(
        title=folder.resolve().name or "benexp", tiles=list(tiles.values()), benchmarks=list(benchmarks.values())
    )
    return page.encoded(html)


def _folded(
    sweep: Result,
    configurations: Mapping[str, Sequence[Path]],
    benchmarks: dict[Path, Result],
    tiles: dict[Path, Result],
) -> Result:
    """The sweep with its jobs, and their tiles, which are taken out of `benchmarks` and `tiles`."""
    found: dict[str, list[Result]] = {}
    for label, jobs in configurations.items():
        for job in jobs:
            if own := benchmarks.pop(job, None):
                below = [tiles.pop(place) for place in sorted(tiles) if job in place.parents]
                # A sweep's jobs lie in folders named by the repeat.
                found.setdefault(label, []).append(Result(f"repeat {job.name}", own.facts, own.files, below))
    return Result(sweep.name, sweep.facts, sweep.files, (), found)


def _folders(folder: Path) -> Iterator[tuple[Path, Files]]:
    """The folder and those below it, none hidden and no links, with those of their files that are shown."""
    real = folder.resolve()
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found: Files = {}
        for path in (Path(place) / name for name in sorted(names)):
            if (count := _bytes(real, path)) is not None:
                found[path.name] = (page.address("/" / path.relative_to(folder)), page.size(count))
        yield Path(place), found


def _bytes(real: Path, path: Path) -> int | None:
    """The size of a file; None of what is not shown: hidden, no file, gone meanwhile, or a link that leaves `real`."""
    try:
        inside = path.resolve(strict=True).relative_to(real) if path.is_symlink() else path
        about = path.stat()
    except (OSError, ValueError, RuntimeError):
        return None
    hidden = path.name.startswith(".") or (inside is not path and any(part.startswith(".") for part in inside.parts))
    return None if hidden or not stat.S_ISREG(about.st_mode) else about.st_size


def _facts(path: Path) -> str:
    """A tile's record in a line."""
    try:
        record = read_record(path, RunRecord)
    except BenexpError:
        return "run.json is not one of this benexp"
    (height, width), precision = record.shape, record.backend.get("precision")
    return (
        f"{width:,} x {height:,} px, {record.crs}; {record.model.name} on {record.backend_name}, {precision}; "
        f"{record.seconds:.1f} s"
    )
