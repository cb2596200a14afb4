"""From products to maps: `benexp tile_folder=...`."""

from collections.abc import Callable, Sequence

from benexp.config.schema import Config
from benexp.execution.classify_products import classify_products
from benexp.records.run import RunRecord
from benexp.runs.backend_choice import choose_backend
from benexp.runs.estimate import DryRun, dry_run
from benexp.runs.inputs import products
from benexp.runs.plan import plan_run, requested_layers


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> Sequence[RunRecord | DryRun]:
    """Classify every product that the configuration names; their records. `say` prints what was done.

    Raises BenexpError where one cannot be classified: at once if it is the only one, else after the others are done.
    """
    backend, layers = choose_backend(config.backend), requested_layers(config)
    found = products(config)
    if config.dry_run:
        return [dry_run(product, config, backend, layers, say) for product in found]
    return classify_products(plan_run(config, overrides, found, backend), say)
