"""One tile with several backends: how their maps differ from the first one's, and how fast each of them was.

Every backend classifies the tile once, alone; a benchmark repeats and interleaves, which this task does not.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benexp.backends.base import Backend
from benexp.config.schema import Config
from benexp.core import cores
from benexp.core.classes import named
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.core.window import Window
from benexp.evaluation.comparison import RECORD, Ran, describe, figures_of, notes_on, summarise
from benexp.mapping import layers, pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.differences import FLIPS, Differences, differences
from benexp.mapping.grid import PatchGrid
from benexp.mapping.layers import Format, Layer
from benexp.models.spec import ModelSpec
from benexp.products.integrity import check as check_integrity
from benexp.products.tile import Tile
from benexp.report.flips import write_flips_picture
from benexp.runs import outputs
from benexp.runs.backend_list import Entry, entries_of
from benexp.runs.backend_setup import make_backend, model_of
from benexp.runs.estimate import plan
from benexp.runs.inputs import open_input, output_folder, products, results_folder
from benexp.runs.quantization import calibration_for_backend
from exporters.calibration import Calibration

log = logging.getLogger("benexp")


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Compare what `backends` make of one product; the record. `say` is told the result as a table.

    Raises BenexpError, before any work, where the question is wrong, and before the long work, with nothing written,
    where one of the backends cannot run here.
    """
    entries = entries_of(config, overrides)
    found = products(config)
    if len(found) != 1:
        raise BenexpError(
            f"input_dir={config.input_dir}: task=compare takes one product, there are {len(found)}: "
            f"name one with tile_folder="
        )
    if config.dry_run:
        planned = plan(found[0], config, [FLIPS] * (len(entries) - 1), say)
        say(f"classified {len(entries)} times, with {', '.join(entry.label for entry in entries)}")
        return [planned]
    spec = model_of(config, *(entry.settings for entry in entries))
    return [_Comparison(found[0], config, overrides, spec, entries).run(say)]


@dataclasses.dataclass
class _Comparison:
    """One product on its way to a folder of comparisons."""

    product: Path
    config: Config
    overrides: Sequence[str]
    spec: ModelSpec
    entries: Sequence[Entry]
    calibration: Calibration | None = None

    def run(self, say: Callable[[str], object]) -> dict[str, Any]:
        with open_input(self.product, self.config, self.spec.bands) as tile:
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            folder = results_folder(self.config, self.product, tile)
            # Not beside the first backend, as classify does: it would take cores from that one alone.
            check_integrity(tile.product, self.config.integrity, self.spec.bands)
            self.calibration = calibration_for_backend(
                [self.product], self.config, self.spec, [entry.settings for entry in self.entries]
            )
            self._try_all()
            with output_folder(folder), staging(folder) as unfinished:
                record, files = self._compare(tile, patches, unfinished)
                record["files"] = {path.name: outputs.describe_file(path) for path in files}
                outputs.publish(files, folder, record, RECORD)
        summarise(folder, record, say)
        return record

    def _make(self, settings: Mapping[str, Any]) -> Backend:
        return make_backend(settings, self.spec, tolerances=self.config.export.tolerance, calibration=self.calibration)

    def _try_all(self) -> None:
        """Open every backend once; one error for all that cannot be."""
        problems = []
        for entry in self.entries:
            settings = dict(entry.settings)
            if settings.get("batch_size") == "auto":
                settings["batch_size"] = (
                    self.spec.batch or 1
                )  # choosing takes a while, and is done when the tile's turn comes
            try:
                with self._make(settings):
                    pass
            except BenexpError as error:
                problems.append(f"{entry.label}: {error}")
        if problems:
            raise BenexpError(
                f"{len(problems)} of {len(self.entries)} backends cannot run here, nothing was compared: "
                + "; ".join(problems)
            )

    def _compare(self, tile: Tile, patches: PatchGrid, folder: Path) -> tuple[dict[str, Any], list[Path]]:
        """The record but for its files, and the files made in `folder`."""
        started = time.perf_counter()
        first, *others = self.entries
        reference = self._classify(first, patches)
        if not reference.rendered.pixels.sum():
            raise BenexpError(f"{tile.name}: no pixel could be classified, there is nothing to compare")
        same = Differences.none(len(self.spec.classes), int(reference.rendered.pixels.sum()))
        pixel_area = abs(tile.transform.a * tile.transform.e)
        backends = [describe(first, reference, reference, same, self.spec.classes, pixel_area)]
        files: list[Path] = []
        for entry in others:
            ran = self._classify(entry, patches)
            found, rasters = self._differences(tile, folder, entry, reference, ran)
            described = describe(entry, ran, reference, found, self.spec.classes, pixel_area)
            picture = folder / f"{entry.file}_flips.png"
            write_flips_picture(
                picture,
                reference.rendered.thumbnail,
                found,
                named(self.spec.classes),
                f"{entry.label} against {first.label}",
                f"{tile.name}, {self.spec.name}",
                figures_of(described),
            )
            backends.append(described)
            files += [*rasters, picture]
        record = {
            **outputs.describe_work(self.config, self.overrides, self.spec, tile, reference.grid),
            "compared_pixels": same.pixels,
            "reference": first.label,
            "notes": notes_on(backends),
            "seconds": round(time.perf_counter() - started, 3),
            "backends": backends,
        }
        return record, files

    def _classify(self, entry: Entry, patches: PatchGrid) -> Ran:
        """Classify the tile; never reuses what an earlier run saved, and opens the tile anew, whose cache is empty."""
        log.info("%s: classifying (%d of %d)", entry.label, self.entries.index(entry) + 1, len(self.entries))
        clocks = StageClocks()
        chunking = self.config.chunking
        with open_input(self.product, self.config, self.spec.bands, warn=False) as tile:
            with clocks.stage("open"):
                backend = self._make(entry.settings)
                backend.open()
            try:
                with clocks.stage("classify"):
                    grid = pipeline.classify(
                        tile,
                        backend,
                        patches,
                        chunk_size=chunking.chunk_size,
                        min_valid=chunking.min_valid,
                        clocks=clocks,
                    )
                about = backend.describe()
            finally:
                backend.close()
        rendered = pipeline.render(
            grid,
            [_Nowhere(layers.build({"names": ["class"]}, self.spec.classes)[0])],
            self.spec.classes,
            blend_shape=chunking.blend,
            clocks=clocks,
            threads=cores.available(),
        )
        took = clocks.seconds
        return Ran(grid, rendered, about, took["open"], took["classify"], took["infer"])

    def _differences(
        self, tile: Tile, folder: Path, entry: Entry, reference: Ran, candidate: Ran
    ) -> tuple[Differences, list[Path]]:
        """The differences, and the files of their map: the GeoTIFF last."""
        # Whatever the precision: at int8's own, nearly every flip would be called a tie.
        tolerance = self.config.export.tolerance["fp32"]
        tags = outputs.tags(self.config, self.spec, tile) | {
            "REFERENCE": self.entries[0].label,
            "CANDIDATE": entry.label,
            "TIE_TOLERANCE": f"{tolerance:g}",
        }
        writer: RasterWriter[Format] = RasterWriter(
            folder / f"{entry.file}_flips.tif",
            FLIPS,
            shape=tile.shape,
            crs=tile.crs,
            transform=tile.transform,
            tags=tags,
            class_names=self.spec.classes,
        )
        with writer:
            found = differences(
                reference.grid,
                candidate.grid,
                blend_shape=self.config.chunking.blend,
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
