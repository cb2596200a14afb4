"""The files and the record that a run leaves: rasters, areas, class map, preview, viewer."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benexp.core import cores
from benexp.core.classes import CLASSES
from benexp.core.clocks import StageClocks
from benexp.mapping import pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.pipeline import Rendered
from benexp.measure.environment import environment, peak_memory
from benexp.products.thumbnail import stretch
from benexp.products.tile import Tile
from benexp.records.run import GridOrigin, PatchCounts, RunRecord
from benexp.report import page
from benexp.report.preview import write_preview
from benexp.report.tables import write_areas, write_classmap
from benexp.report.viewer import Picture, write_viewer
from benexp.runs.plan import RunPlan
from benexp.version import __version__

PICTURE = 2800
"""Pixels a side of pictures at most: a quarter of a full tile, which JPEG2000 decodes at a sixteenth of the cost."""


def tags(plan: RunPlan, tile: Tile) -> dict[str, str]:
    """The tags of every raster: the model, the settings, and notable facts about the input."""
    spec = plan.spec
    return {
        "BENEXP_VERSION": __version__,
        "MODEL": spec.name,
        "REVISION": spec.revision or spec.weights_hash[:16],
        "WEIGHTS": spec.source if spec.trained else "RANDOM WEIGHTS: for speed runs, not a land-cover map",
        "STRIDE": str(plan.chunking.stride),
        "BLEND": plan.chunking.blend,
        **tile.tags,
    }


def write_layers(
    plan: RunPlan, tile: Tile, grid: ProbabilityGrid, origin: GridOrigin, folder: Path, clocks: StageClocks
) -> tuple[Rendered, list[Path]]:
    """Render all layers as GeoTIFFs into `folder`; the files, sidecars before the GeoTIFF that they belong to."""
    raster_tags = tags(plan, tile) | {"BACKEND": plan.backend.name, "PRECISION": str(origin.backend["precision"])}
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(
                    folder / f"{tile.name}_{layer.name}.tif",
                    layer,
                    shape=tile.shape,
                    crs=tile.crs,
                    transform=tile.transform,
                    tags=raster_tags,
                    class_names=plan.spec.classes,
                )
            )
            for layer in plan.layers
        ]
        rendered = pipeline.render(
            grid,
            writers,
            plan.spec.classes,
            blend_shape=plan.chunking.blend,
            clocks=clocks,
            threads=cores.available(),
        )
        with clocks.stage("write"):
            for writer in writers:
                writer.finish()
                writer.publish()
    return rendered, [file for writer in writers for file in writer.files]


def describe_work(plan: RunPlan, tile: Tile, grid: ProbabilityGrid) -> dict[str, Any]:
    """The fields of WorkRecord but for its files."""
    return {
        "tile": tile.name,
        "product": str(tile.product.path),
        "shape": tile.shape,
        "crs": str(tile.crs),
        "transform": tuple(tile.transform)[:6],
        "command": plan.command,
        "config": plan.asked,
        "config_hash": plan.config_hash,
        "model": plan.spec.record,
        "offsets": tile.offsets,
        "offset_source": tile.offset_decision.source,
        "patches": PatchCounts(grid.classified.size, int(grid.classified.sum())),
        "valid_pixels": int(grid.valid.sum()),
        "warnings": list(tile.warnings),
        "peak_memory_bytes": peak_memory(),
        "environment": environment(),
    }


def describe_run(plan: RunPlan, tile: Tile, grid: ProbabilityGrid, origin: GridOrigin, rendered: Rendered) -> RunRecord:
    """The run's record but for its times and files."""
    work = describe_work(plan, tile, grid)
    return RunRecord(
        **work | {"warnings": [*tile.warnings, *origin.warnings]},
        backend_name=plan.backend.name,
        grid_key=origin.grid_key,
        grid_reused=origin.reused,
        resumed_chunks=origin.resumed_chunks,
        map_hash=rendered.map_hash,
        backend=origin.backend,
        calibration=origin.calibration,
    )


def write_reports(
    folder: Path,
    tile: Tile,
    grid: ProbabilityGrid,
    rendered: Rendered,
    class_names: tuple[str, ...],
    rasters: Sequence[Path],
    others: Sequence[Path],
    record: RunRecord,
) -> list[Path]:
    """Write tables, preview and page into `folder`; the files. The page names `rasters` and `others`, too."""
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


def summarise(folder: Path, record: RunRecord, say: Callable[[str], object], briefly: bool) -> None:
    """Print the time of each stage and the files: a line for each file, or `briefly` one for all."""
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record.stage_seconds.items())
    patches = "the saved grid was reused" if record.grid_reused else f"{record.patches.classified} patches"
    if resumed := record.resumed_chunks:
        patches += f" ({resumed} chunks of them by a run that was interrupted)"
    say(f"{record.tile}: {patches}, {record.seconds:.1f} s in all (busy: {stages})")
    if briefly:
        say(f"  written to {folder}")
        return
    say(f"written to {folder}:")
    for name, about in record.files.items():
        say(f"  {page.size(about.bytes):>9}  {name}")
