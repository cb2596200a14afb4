"""One configuration over all products, measured in a process of its own: `benexp task=benchmark input_dir=...`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benexp.benchmarking.job import BenchmarkJob
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.models.resolve import resolve
from benexp.records.names import TABLE
from benexp.records.storage import to_dict
from benexp.records.tile import FailedTile
from benexp.runs.backend_setup import backend_class
from benexp.runs.estimate import plan
from benexp.runs.inputs import output_folder, products
from benexp.tasks.classify import checked_layers


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Measure the configuration on every product it names; the tiles' records, as the report holds them.

    The report is written anew after every tile. Raises BenexpError where a tile failed, after the others are done.
    """
    backend_class(config.backend)
    made_layers = checked_layers(config)
    found = products(config)
    if config.dry_run:
        return [plan(product, config, made_layers, say) for product in found]
    spec = resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    folder = Path(config.output_folder)
    with output_folder(folder), staging(folder) as scratch:
        job = BenchmarkJob(config, overrides, spec, made_layers, found, folder, say)
        job.prepare(scratch)
        try:
            job.measure()
        except BaseException:
            job.save("interrupted")
            raise
        job.summarise()
    failed = [tile.tile for tile in job.tiles if isinstance(tile, FailedTile)]
    if failed:
        raise BenexpError(f"{len(failed)} of {len(found)} products failed: {', '.join(failed)} (see {folder / TABLE})")
    return [to_dict(tile) for tile in job.tiles]
