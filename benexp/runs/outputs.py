"""What a run leaves for people and programs beside its rasters: record, areas, class map, preview, viewer."""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

from benexp.config.command import command
from benexp.config.hashing import config_hash
from benexp.config.schema import Config
from benexp.core.classes import CLASSES
from benexp.core.errors import one_line
from benexp.core.files import replacing, sync
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.pipeline import Rendered
from benexp.measure.environment import environment, peak_memory
from benexp.models.spec import ModelSpec
from benexp.products.thumbnail import stretch
from benexp.products.tile import Tile
from benexp.report import page
from benexp.report.preview import write_preview
from benexp.report.tables import write_areas, write_classmap
from benexp.report.viewer import Picture, write_viewer
from benexp.runs.backend_setup import backend_name
from benexp.version import __version__

log = logging.getLogger("benexp")

RECORD = "run.json"
"""Written last: where it is, the tile is complete."""
PICTURE = 2800
"""Pixels a side of pictures at most: a quarter of a full tile, which JPEG2000 decodes at a sixteenth of the cost."""


def tags(config: Config, spec: ModelSpec, tile: Tile) -> dict[str, str]:
    """The tags of every raster: the model, the settings, and notable facts about the input."""
    return {
        "BENEXP_VERSION": __version__,
        "MODEL": spec.name,
        "REVISION": spec.revision or spec.weights_hash[:16],
        "WEIGHTS": spec.source if spec.trained else "RANDOM WEIGHTS: for speed runs, not a land-cover map",
        "STRIDE": str(config.chunking.stride),
        "BLEND": config.chunking.blend,
        **tile.tags,
    }


def describe_work(
    config: Config, overrides: Sequence[str], spec: ModelSpec, tile: Tile, grid: ProbabilityGrid
) -> dict[str, Any]:
    """What was asked, of which tile, with which model, and where it ran."""
    return {
        "tile": tile.name,
        "product": str(tile.product.path),
        "shape": list(tile.shape),
        "crs": str(tile.crs),
        "transform": list(tile.transform)[:6],
        "command": command(overrides),
        "config": dataclasses.asdict(config),
        "config_hash": config_hash(config),
        "model": {key: value for key, value in dataclasses.asdict(spec).items() if key != "path"},
        "offsets": tile.offsets,
        "offset_source": tile.offset_decision.source,
        "patches": {"all": grid.classified.size, "classified": int(grid.classified.sum())},
        "valid_pixels": int(grid.valid.sum()),
        "warnings": list(tile.warnings),
        "peak_memory_bytes": peak_memory(),
        "environment": environment(),
    }


def describe_run(
    config: Config,
    overrides: Sequence[str],
    spec: ModelSpec,
    tile: Tile,
    grid: ProbabilityGrid,
    about: dict[str, Any],
    rendered: Rendered,
) -> dict[str, Any]:
    """The run's record but for its times and files: what was asked, what ran, what came out of it."""
    return {
        **describe_work(config, overrides, spec, tile, grid),
        "backend_name": backend_name(config.backend),
        "grid_key": about["grid_key"],
        "grid_reused": about["reused"],
        "resumed_chunks": about["resumed_chunks"],
        "warnings": [*tile.warnings, *about["warnings"]],
        "map_hash": rendered.map_hash,
        "backend": about["backend"],
    }


def write_reports(
    folder: Path,
    tile: Tile,
    grid: ProbabilityGrid,
    rendered: Rendered,
    class_names: tuple[str, ...],
    rasters: Sequence[Path],
    others: Sequence[Path],
    record: dict[str, Any],
) -> list[Path]:
    """Write what people look at into `folder`; what was written. `others` are files that the page names, too."""
    areas, classmap, preview, viewer = (
        folder / name for name in ("areas.csv", f"{tile.name}_classmap.json", "preview.png", "viewer.html")
    )
    pixel_area = abs(tile.transform.a * tile.transform.e)
    write_areas(areas, rendered.pixels, pixel_area, CLASSES)
    write_classmap(classmap, class_names)
    pictures = tile_pictures(tile)
    true_colour = pictures[0]
    write_preview(
        *(preview, true_colour.colours, true_colour.valid, rendered.thumbnail, CLASSES, tile.name, rendered.pixels)
    )
    shown = sorted(rasters, key=lambda path: path.suffix != ".tif")
    write_viewer(viewer, record, grid, pictures, rendered.pixels, CLASSES, [*shown, areas, classmap, preview, *others])
    return [areas, classmap, preview, viewer]


def tile_pictures(tile: Tile) -> list[Picture]:
    """The tile in true colour, and in infrared colours where it has the band for it: read once, at low resolution."""
    infrared = "B08" in tile.product.bands
    bands = ("B04", "B03", "B02", *(["B08"] if infrared else []))
    numbers = tile.reduced(bands, PICTURE)
    found = [Picture("True colour", "B04, B03, B02", *stretch(numbers[:3]))]
    if infrared:
        # Apart: plants are so bright in the infrared that one stretch would leave nothing but red.
        found.append(Picture("Infrared", "B08, B04, B03: plants are red", *stretch(numbers[[3, 0, 1]], apart=True)))
    return found


def publish(files: Sequence[Path], folder: Path, record: dict[str, Any], name: str = RECORD) -> None:
    """Move finished files to `folder` and write the record last, as `name`: in this order on the disk, too.

    Files of earlier runs that this one did not make, such as other layers, are removed, however those runs ended.
    """
    path, journal = folder / name, folder / f".{name}"
    for file in files:
        sync(file)
    before, made = _files_before(path) | _files_before(journal), set(record["files"])
    with replacing(path) as temporary:
        # Where there is no room for it, the earlier results are still whole.
        _write(temporary, record)
        # Until the record is there, this is what tells the next run of files that no record names.
        with replacing(journal) as unfinished:
            _write(unfinished, {"files": sorted(before | made)})
        # From here on results of an earlier run are replaced: its record no longer holds.
        path.unlink(missing_ok=True)
        sync(folder)
        for old in before - made:
            # Beside the new ones it would be taken for one of them.
            (folder / old).unlink(missing_ok=True)
        for file in files:
            file.replace(folder / file.name)
        sync(folder)
    journal.unlink()


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def _files_before(path: Path) -> set[str]:
    """The files that the record at `path` names beside itself; none where it is no record, which is warned about."""
    if not path.is_file():
        return set()
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["files"])
        # Else a record from elsewhere would have files anywhere removed.
        if strange := [name for name in names if name in ("", ".", "..") or "/" in name]:
            raise ValueError(f"it names {strange[0]!r}, which is no file beside it")
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is no record of benexp (%s): it is replaced", path, one_line(error))
        return set()
    return names


def describe_file(path: Path) -> dict[str, Any]:
    """Size and sha256."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": file_digest(file, "sha256").hexdigest()}


def summarise(folder: Path, record: dict[str, Any], say: Callable[[str], object], briefly: bool) -> None:
    """Say what was written and how long each stage took: a line for each file, or `briefly` one for all."""
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record["stage_seconds"].items())
    patches = "the saved grid was reused" if record["grid_reused"] else f"{record['patches']['classified']} patches"
    if resumed := record["resumed_chunks"]:
        patches += f" ({resumed} chunks of them by a run that was interrupted)"
    say(f"{record['tile']}: {patches}, {record['seconds']:.1f} s in all (busy: {stages})")
    if briefly:
        say(f"  written to {folder}")
        return
    say(f"written to {folder}:")
    for name, about in record["files"].items():
        say(f"  {page.size(about['bytes']):>9}  {name}")
