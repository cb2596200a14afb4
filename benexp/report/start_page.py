"""The page at the start of a served folder: its tiles and benchmarks, with links to what there is of them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benexp.report import page

RECORD, REPORT = "run.json", "report.json"


@dataclass(frozen=True)
class Result:
    """A folder with results: of a tile, or of a benchmark. `files` are links and sizes in MB by name."""

    name: str
    facts: str
    files: dict[str, tuple[str, float]]


def start_page(folder: Path) -> str:
    """The page about all results below `folder` as they are now."""
    tiles, benchmarks = [], []
    for place, names in _folders(folder):
        if RECORD in names:
            tiles.append(_result(folder, place, names, _facts(place / RECORD)))
        if REPORT in names:
            benchmarks.append(_result(folder, place, names, ""))
    title = folder.resolve().name or "benexp"
    return page.template("start_page.html.j2").render(title=title, tiles=tiles, benchmarks=benchmarks)


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder and those below it, none hidden and no links, with the names of their files."""
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(place), sorted(name for name in names if not name.startswith("."))


def _result(folder: Path, place: Path, names: list[str], facts: str) -> Result:
    inside = place.relative_to(folder)
    files = {
        name: (quote(f"/{(inside / name).as_posix()}"), (place / name).stat().st_size / 1e6)
        for name in names
        if (place / name).is_file()
    }
    return Result(str(inside) if inside.parts else folder.resolve().name, facts, files)


def _facts(path: Path) -> str:
    """What a tile's record says in a line; nothing where it is not ours."""
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
        height, width = record["shape"]
        backend = record["backend"]
        return (
            f"{width:,} x {height:,} px, {record['crs']}; {record['model']['name']} on {backend['backend']}, "
            f"{backend['precision']}; {record['seconds']:.1f} s"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "run.json is not one of benexp"
