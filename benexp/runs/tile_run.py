"""One product on its way to a folder of results."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.products.integrity import check as check_integrity
from benexp.products.region import region_of
from benexp.products.tile import Tile
from benexp.records.names import RUN
from benexp.records.run import RunRecord
from benexp.report.stac import item_name, write_item
from benexp.runs import outputs
from benexp.runs.inputs import open_input, output_folder, tile_folder
from benexp.runs.plan import RunPlan
from benexp.runs.publishing import describe_file, publish
from benexp.runs.rerun import plan_rerun
from benexp.runs.tile_grid import TileClassifier, obtain_grid

log = logging.getLogger("benexp")

Outcomes = Generator[tuple[Path, RunRecord | BenexpError], None, None]
"""For each product its record, or why there is none."""


def run_tiles(
    plan: RunPlan,
    products: Sequence[Path],
    classifier: TileClassifier,
    say: Callable[[str], object],
    taken: Collection[str] = (),
) -> Outcomes:
    """Classify each product in turn; none may have a name that is `taken`."""
    names = set(taken)
    for product in products:
        try:
            record = run_tile(plan, product, classifier, say, names)
        except BenexpError as error:
            yield product, error
        else:
            names.add(record.tile)
            yield product, record


def run_tile(
    plan: RunPlan,
    product: Path,
    classifier: TileClassifier,
    say: Callable[[str], object],
    taken: Collection[str] = (),
) -> RunRecord:
    """Classify a product, whose tile must not have one of the `taken` names, and write its results.

    `say` prints a summary. Raises BenexpError, with nothing written under the name of a result, where that fails.
    """
    started = time.perf_counter()
    clocks = StageClocks()

    def timed(record: RunRecord) -> RunRecord:
        seconds = round(time.perf_counter() - started, 3)
        return dataclasses.replace(record, seconds=seconds, stage_seconds=clocks.rounded())

    with clocks.stage("open"):
        tile = open_input(product, plan.reading, plan.spec.bands)
    with tile, ThreadPoolExecutor(1, "integrity") as pool:
        if tile.name in taken:
            raise BenexpError(f"{product}: its results would overwrite those of another {tile.name}: rename it")
        region = region_of(tile, plan.region)
        for warning in region.warnings:
            log.warning("%s: %s", tile.name, warning)
        tiles = tile_folder(plan.output_folder, product, tile)
        folder = outputs.results_folder(plan, region, tiles)
        with output_folder(tiles), output_folder(folder), staging(folder) as staged:
            plan = plan_rerun(plan, region, folder)
            # Verified while the model runs: nothing is saved before the files are known to be sound.
            sound = pool.submit(_verify, plan, tile, clocks)
            made = obtain_grid(plan, region, tiles, folder, classifier, sound, clocks)
            rendered, rasters = outputs.write_layers(plan, region, made, staged, clocks)
            # With times as far as they are known when the pages, which show them, are written.
            record = timed(outputs.describe_run(plan, region, made, rendered, folder))
            with clocks.stage("report"):
                beside = [made.path] if made.path.parent == folder else []
                item = staged / item_name(tile.name)
                others = [*beside, item, staged / RUN]
                reports = outputs.write_reports(staged, region, made.grid, rendered, rasters, others, record)
                files = [*rasters, *reports]
                write_item(item, record, plan.spec, [*files, *beside], plan.in_collection)
                files.append(item)
                described = {path.name: describe_file(path) for path in [*files, *beside]}
            record = dataclasses.replace(timed(record), files=described)
            publish(files, folder, record)
    outputs.summarise(folder, record, say, briefly=plan.in_collection)
    return record


def _verify(plan: RunPlan, tile: Tile, clocks: StageClocks) -> None:
    with clocks.stage("integrity"):
        check_integrity(tile.product, plan.integrity, plan.spec.bands)
