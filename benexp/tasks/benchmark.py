"""One configuration over all products, measured in a process of its own: `benexp task=benchmark input_dir=...`."""

from collections.abc import Callable, Sequence

from benexp.benchmarking.benchmark_job import BenchmarkJob
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.records.names import TABLE
from benexp.records.tile import FailedTile, TileRecord
from benexp.runs.backend_choice import choose_backend
from benexp.runs.estimate import DryRun, dry_run
from benexp.runs.inputs import output_folder, products
from benexp.runs.plan import plan_run, requested_layers


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> Sequence[TileRecord | DryRun]:
    """Measure the configuration on every product it names; the tiles' records, as the report holds them.

    The report is written anew after every tile. Raises BenexpError where a tile failed, after the others are done.
    """
    backend, layers = choose_backend(config.backend), requested_layers(config)
    found = products(config)
    if config.dry_run:
        return [dry_run(product, config, backend, layers, say) for product in found]
    plan = plan_run(config, overrides, found, backend)
    folder = plan.output_folder
    with output_folder(folder), staging(folder) as scratch:
        job = BenchmarkJob(plan, config.benchmark, say)
        job.find_measured_tiles(scratch)
        try:
            job.measure()
        except BaseException:
            job.save("interrupted")
            raise
        job.summarise()
    failed = [tile.tile for tile in job.tiles if isinstance(tile, FailedTile)]
    if failed:
        raise BenexpError(f"{len(failed)} of {len(found)} products failed: {', '.join(failed)} (see {folder / TABLE})")
    return job.tiles
