"""The files and the record that a run leaves: rasters, areas, class map, preview, viewer.

`write_layers` gives each rendered block to one writer per layer (`mapping/cog.py`); another format is another writer.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benexp.core import cores
from benexp.core.classes import CLASSES
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.mapping import pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.pipeline import Rendered
from benexp.measure.environment import environment, peak_memory
from benexp.products.placement import RESOLUTION
from benexp.products.region import TileRegion
from benexp.products.thumbnail import stretch
from benexp.products.tile import Tile
from benexp.records.run import EffectiveResolution, PatchCounts, PixelCounts, RunRecord
from benexp.report import page
from benexp.report.preview import write_preview
from benexp.report.tables import classified_text, write_areas, write_classmap
from benexp.report.viewer import Picture, write_viewer
from benexp.runs.plan import RunPlan
from benexp.runs.publishing import describe_file
from benexp.runs.tile_grid import TileGrid
from benexp.version import __version__

PICTURE = 2800
"""Pixels a side of pictures at most: a quarter of a full tile, which JPEG2000 decodes at a sixteenth of the cost."""


def tags(plan: RunPlan, tile: Tile) -> dict[str, str]:
    """The tags of every raster: the model, the settings, and notable facts about the input."""
    spec = plan.spec
    return {
        "BENEXP_VERSION": __version__,
        "MODEL": spec.name,
        **({"REVISION": spec.revision} if spec.revision else {}),
        "WEIGHTS_SHA256": spec.weights_hash,
        "WEIGHTS": spec.source if spec.trained else "RANDOM WEIGHTS: for speed runs, not a land-cover map",
        "STRIDE": str(plan.chunking.stride),
        "BLEND": plan.chunking.blend,
        "EFFECTIVE_RESOLUTION": str(resolution(plan)),
        **({"SENSED": tile.product.sensed} if tile.product.sensed else {}),
        "TIFFTAG_COPYRIGHT": tile.product.attribution,
        **tile.tags,
    }


def resolution(plan: RunPlan) -> EffectiveResolution:
    """The effective resolution of a plan's maps."""
    return EffectiveResolution(round(plan.spec.patch_size * RESOLUTION), round(plan.chunking.stride * RESOLUTION))


def results_folder(plan: RunPlan, region: TileRegion, tile_folder: Path) -> Path:
    """The folder of the results: the tile's, or one inside it for a region or where the plan names it."""
    name = plan.output_name or (None if region.is_whole else region.name)
    folder = tile_folder / name if name else tile_folder
    if folder.is_symlink():
        raise BenexpError(f"{folder} is a link, to {folder.resolve()}: remove it, or choose another output_name=")
    return folder


def write_layers(
    plan: RunPlan, region: TileRegion, made: TileGrid, folder: Path, clocks: StageClocks
) -> tuple[Rendered, list[Path]]:
    """Render all layers as GeoTIFFs into `folder`; the files, sidecars before the GeoTIFF that they belong to."""
    tile, precision = region.tile, str(made.origin.backend["precision"])
    raster_tags = tags(plan, tile) | {"BACKEND": plan.backend.name, "PRECISION": precision}
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(
                    folder / f"{tile.name}_{layer.name}.tif",
                    layer,
                    shape=region.shape,
                    crs=tile.crs,
                    transform=region.transform,
                    tags=raster_tags,
                    class_names=plan.spec.classes,
                )
            )
            for layer in plan.layers
        ]
        rendered = pipeline.render(
            made.grid,
            region.window,
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


def describe_work(plan: RunPlan, region: TileRegion, grid: ProbabilityGrid, rendered: Rendered) -> dict[str, Any]:
    """The fields of WorkRecord but for its files."""
    tile = region.tile
    classified = grid.classified[grid.patches.touching(region.window)]
    valid = int(grid.valid(region.window).sum())
    return {
        "tile": tile.name,
        "product": str(tile.product.path),
        "product_hash": tile.fingerprint,
        "sensed": tile.product.sensed,
        "simulated": tile.product.simulated,
        "attribution": tile.product.attribution,
        "region": None if region.is_whole else tuple(region.window),
        "tile_shape": tile.shape,
        "shape": region.shape,
        "crs": str(tile.crs),
        "transform": tuple(region.transform)[:6],
        "command": plan.command,
        "config": plan.asked,
        "config_hash": plan.config_hash,
        "model": plan.spec.record,
        "offsets": tile.offsets,
        "offset_source": tile.offset_decision.source,
        "resolution": resolution(plan),
        "patches": PatchCounts(classified.size, int(classified.sum())),
        "valid_pixels": valid,
        "pixels": PixelCounts.of(region.shape[0] * region.shape[1], valid, int(rendered.pixels.sum())),
        "warnings": [*tile.warnings, *region.warnings],
        "peak_memory_bytes": peak_memory(),
        "environment": environment(),
    }


def describe_run(plan: RunPlan, region: TileRegion, made: TileGrid, rendered: Rendered, folder: Path) -> RunRecord:
    """The run's record but for its times and files."""
    work = describe_work(plan, region, made.grid, rendered)
    return RunRecord(
        **work | {"warnings": [*work["warnings"], *made.warnings]},
        folder=str(folder.relative_to(plan.output_folder)),
        backend_name=plan.backend.name,
        grid_key=made.origin.grid_key,
        grid=describe_file(made.path),
        grid_reused=made.reused,
        resumed_chunks=made.resumed_chunks,
        map_hash=rendered.map_hash,
        backend=made.origin.backend,
        range_patches=made.origin.range_patches,
    )


def write_reports(
    folder: Path,
    region: TileRegion,
    grid: ProbabilityGrid,
    rendered: Rendered,
    rasters: Sequence[Path],
    others: Sequence[Path],
    record: RunRecord,
) -> list[Path]:
    """Write tables, preview and page into `folder`; the files. The page names `rasters` and `others`, too."""
    areas, classmap, preview, viewer = (
        folder / name for name in ("areas.csv", f"{region.tile.name}_classmap.json", "preview.png", "viewer.html")
    )
    write_areas(areas, record, rendered.pixels, CLASSES)
    write_classmap(classmap, record.model.classes)
    pictures = tile_pictures(region)
    true_colour = pictures[0]
    write_preview(preview, record, true_colour.colours, true_colour.valid, rendered.thumbnail, rendered.pixels, CLASSES)
    shown = sorted(rasters, key=lambda path: path.suffix != ".tif")
    write_viewer(
        viewer,
        record,
        grid,
        region.window,
        pictures,
        rendered.pixels,
        CLASSES,
        [*shown, areas, classmap, preview, *others],
    )
    return [areas, classmap, preview, viewer]


def tile_pictures(region: TileRegion) -> list[Picture]:
    """The region in true colour, and in infrared colours where it has the band for it: read once, at low resolution."""
    infrared = "B08" in region.tile.product.bands
    bands = ("B04", "B03", "B02", *(["B08"] if infrared else []))
    numbers = region.tile.reduced(bands, PICTURE, region.window)
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
    say(f"  {classified_text(record)}; {record.resolution}")
    if briefly:
        say(f"  written to {folder}")
        return
    say(f"written to {folder}:")
    for name, about in record.files.items():
        say(f"  {page.size(about.bytes):>9}  {name}")
