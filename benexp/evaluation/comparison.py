"""One tile with several backends: how their maps differ from the first one's, and how fast each of them was.

Every backend classifies the tile once, alone; a benchmark repeats and interleaves, which this does not.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benexp.backends.base import Backend
from benexp.core import cores
from benexp.core.classes import named
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.core.window import Window
from benexp.evaluation.comparison_report import Ran, describe, figures_of, notes_on, summarise
from benexp.mapping import layers, pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.differences import FLIPS, Differences, differences
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.mapping.layers import Format, Layer
from benexp.products.integrity import check as check_integrity
from benexp.products.region import TileRegion, region_of
from benexp.records.comparison import ComparisonRecord
from benexp.records.names import COMPARISON
from benexp.report.flips import write_flips_picture
from benexp.runs.backend_choice import BackendChoice
from benexp.runs.backend_list import Entry
from benexp.runs.inputs import open_input, output_folder, tile_folder
from benexp.runs.outputs import describe_work, results_folder, tags
from benexp.runs.plan import RunPlan
from benexp.runs.publishing import describe_file, publish

log = logging.getLogger("benexp")


@dataclasses.dataclass
class Comparison:
    """One product classified by several backends; the plan's own backend is the first of them."""

    plan: RunPlan
    entries: Sequence[Entry]

    def run(self, say: Callable[[str], object]) -> ComparisonRecord:
        """Compare the backends, write the results and print a table; the record."""
        plan, (product,) = self.plan, self.plan.products
        with open_input(product, plan.reading, plan.spec.bands) as tile:
            region = region_of(tile, plan.region)
            tiles = tile_folder(plan.output_folder, product, tile)
            folder = results_folder(plan, region, tiles)
            # Not beside the first backend, as classify does: it would take cores from that one alone.
            check_integrity(tile.product, plan.integrity, plan.spec.bands)
            self._try_all()
            with output_folder(tiles), output_folder(folder), staging(folder) as staged:
                record, files = self._compare(region, staged)
                record = dataclasses.replace(record, files={path.name: describe_file(path) for path in files})
                publish(files, folder, record, COMPARISON)
        summarise(folder, record, say)
        return record

    def _make(self, backend: BackendChoice) -> Backend:
        return backend.make(self.plan.spec, tolerances=self.plan.tolerances, range_patches=self.plan.range_patches)

    def _try_all(self) -> None:
        """Open every backend once; one error for all that cannot be."""
        problems = []
        for entry in self.entries:
            backend = entry.backend
            if backend.settings.get("batch_size") == "auto":
                # Choosing takes a while, and is done when the tile's turn comes.
                backend = backend.replace(batch_size=self.plan.spec.batch or 1)
            try:
                with self._make(backend):
                    pass
            except BenexpError as error:
                problems.append(f"{entry.label}: {error}")
        if problems:
            raise BenexpError(
                f"{len(problems)} of {len(self.entries)} backends cannot run here, nothing was compared: "
                + "; ".join(problems)
            )

    def _compare(self, region: TileRegion, folder: Path) -> tuple[ComparisonRecord, list[Path]]:
        """The record but for its files, and the files made in `folder`."""
        started = time.perf_counter()
        tile, (first, *others) = region.tile, self.entries
        reference = self._classify(first, region)
        if not reference.rendered.pixels.sum():
            raise BenexpError(f"{tile.name}: no pixel could be classified, there is nothing to compare")
        same = Differences.none(len(self.plan.spec.classes), int(reference.rendered.pixels.sum()))
        pixel_area = abs(tile.transform.a * tile.transform.e)
        backends = [describe(first, reference, reference, same, self.plan.spec.classes, pixel_area)]
        files: list[Path] = []
        for entry in others:
            ran = self._classify(entry, region)
            found, rasters = self._differences(region, folder, entry, reference, ran)
            described = describe(entry, ran, reference, found, self.plan.spec.classes, pixel_area)
            picture = folder / f"{entry.file}_flips.png"
            write_flips_picture(
                picture,
                reference.rendered.thumbnail,
                found,
                named(self.plan.spec.classes),
                f"{entry.label} against {first.label}",
                f"{tile.name}, {self.plan.spec.name}",
                figures_of(described),
            )
            backends.append(described)
            files += [*rasters, picture]
        record = ComparisonRecord(
            **describe_work(self.plan, region, reference.grid, reference.rendered),
            compared_pixels=same.pixels,
            reference=first.label,
            notes=notes_on(backends),
            seconds=round(time.perf_counter() - started, 3),
            backends=backends,
        )
        return record, files

    def _classify(self, entry: Entry, region: TileRegion) -> Ran:
        """Classify the region; saved answers are never reused, and the tile is opened anew, with an empty cache."""
        log.info("%s: classifying (%d of %d)", entry.label, self.entries.index(entry) + 1, len(self.entries))
        clocks = StageClocks()
        chunking, spec = self.plan.chunking, self.plan.spec
        patches = PatchGrid(region.tile.shape, spec.patch_size, chunking.stride)
        grid = ProbabilityGrid.empty(patches, len(spec.classes))
        with open_input(self.plan.products[0], self.plan.reading, self.plan.spec.bands, warn=False) as tile:
            with clocks.stage("open"):
                backend = self._make(entry.backend)
                backend.open()
            try:
                with clocks.stage("classify"):
                    pipeline.classify(
                        tile,
                        backend,
                        grid,
                        region.window,
                        chunk_size=chunking.chunk_size,
                        min_valid=chunking.min_valid,
                        clocks=clocks,
                    )
                about = backend.describe()
            finally:
                backend.close()
        rendered = pipeline.render(
            grid,
            region.window,
            [_Nowhere(layers.build({"names": ["class"]}, spec.classes)[0])],
            spec.classes,
            blend_shape=chunking.blend,
            clocks=clocks,
            threads=cores.available(),
        )
        took = clocks.seconds
        return Ran(grid, rendered, about, took["open"], took["classify"], took["infer"])

    def _differences(
        self, region: TileRegion, folder: Path, entry: Entry, reference: Ran, candidate: Ran
    ) -> tuple[Differences, list[Path]]:
        """The differences, and the files of their map: the GeoTIFF last."""
        # Whatever the precision: at int8's own, nearly every flip would be called a tie.
        tolerance = self.plan.tolerances["fp32"]
        raster_tags = tags(self.plan, region.tile) | {
            "REFERENCE": self.entries[0].label,
            "CANDIDATE": entry.label,
            "TIE_TOLERANCE": f"{tolerance:g}",
        }
        writer: RasterWriter[Format] = RasterWriter(
            folder / f"{entry.file}_flips.tif",
            FLIPS,
            shape=region.shape,
            crs=region.tile.crs,
            transform=region.transform,
            tags=raster_tags,
            class_names=self.plan.spec.classes,
        )
        with writer:
            found = differences(
                reference.grid,
                candidate.grid,
                region.window,
                blend_shape=self.plan.chunking.blend,
                tolerance=tolerance,
                threads=cores.available(),
                take=writer.write,
            )
            writer.finish()
            writer.publish()
        return found, writer.files


@dataclasses.dataclass
class _Nowhere:
    """Lets a map be rendered for its hash, its areas and its reduced copy alone."""

    layer: Layer

    def write(self, values: npt.NDArray[Any], window: Window) -> None:
        pass
