"""viewer.html: one self-contained page about a tile."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import numpy.typing as npt

from benexp.classes import CLASSES
from benexp.files import replacing
from benexp.report.tables import areas


def write_viewer(
    path: Path,
    record: Mapping[str, Any],
    preview: Path,
    counts: npt.NDArray[np.int64],
    pixel_area: float,
    files: Sequence[Path],
) -> None:
    """The page about the run that `record` describes, with `preview` (a PNG) inside it.

    `counts` [19] are pixels per class, of `pixel_area` m2 each; `files` exist, in the folder of `path`.
    """
    found = sorted((a for a in areas(counts, pixel_area, CLASSES) if a.share), key=lambda a: -a.share)
    page = _environment().get_template("viewer.html.j2")
    html = page.render(
        title=record["tile"],
        trained=record["model"]["trained"],
        warnings=record["warnings"],
        preview=base64.b64encode(preview.read_bytes()).decode(),
        areas=found,
        facts=_facts(record),
        stages=record["stage_seconds"],
        seconds=record["seconds"],
        files=[(file.name, quote(file.name), file.stat().st_size / 1e6) for file in files],
        command=record["command"],
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the page says about the run, as (label, value)."""
    model, backend, chunking = record["model"], record["backend"], record["config"]["chunking"]
    height, width = record["shape"]
    return [
        ("Model", model["name"]),
        ("Weights", f"{model['weights']}: {model['source']}"),
        ("Revision", model["revision"] or f"none; sha256 {model['weights_hash'][:16]}"),
        ("Backend", backend["backend"]),
        ("Precision", backend["precision"]),
        ("Device", backend["device"]),
        ("Patch and stride", f"{chunking['patch_size']} px, {chunking['stride']} px"),
        ("Patches", f"{record['patches']['classified']:,} of {record['patches']['all']:,} classified"),
        ("Size", f"{width:,} x {height:,} px"),
        ("Coordinates", record["crs"]),
        ("Map", f"sha256 {record['map_hash'][:16]}"),
    ]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("benexp.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
