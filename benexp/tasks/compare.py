"""One tile with several backends: `benexp task=compare 'backends=[...]'`."""

from collections.abc import Callable, Sequence

from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.evaluation.comparison import Comparison
from benexp.mapping.differences import FLIPS
from benexp.records.comparison import ComparisonRecord
from benexp.runs.backend_list import entries_of
from benexp.runs.estimate import DryRun, dry_run
from benexp.runs.inputs import products
from benexp.runs.plan import plan_run


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> Sequence[ComparisonRecord | DryRun]:
    """Compare what `backends` make of one product; the record. `say` prints the result as a table.

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
    backends = [entry.backend for entry in entries]
    if config.dry_run:
        planned = dry_run(found[0], config, backends[0], [FLIPS] * (len(entries) - 1), say)
        say(f"classified {len(entries)} times, with {', '.join(entry.label for entry in entries)}")
        return [planned]
    return [Comparison(plan_run(config, overrides, found, *backends), entries).run(say)]
