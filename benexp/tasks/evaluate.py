"""The accuracy of a backend on labelled patches, or of a map against a raster of the true classes."""

from collections.abc import Callable, Sequence

from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.evaluation.map_evaluation import evaluate_map
from benexp.evaluation.patch_evaluation import evaluate_patches
from benexp.measure.accuracy import metrics
from benexp.records.evaluation import EvaluationRecord
from benexp.runs.estimate import DryRun


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> Sequence[EvaluationRecord | DryRun]:
    """Evaluate what the configuration names; the record. `say` is told the figures.

    Raises BenexpError, before any long work, where the question is wrong or has no answer.
    """
    asked = config.evaluate
    metrics()
    if asked.patches and (asked.reference or asked.map):
        raise BenexpError("evaluate.patches excludes evaluate.reference and evaluate.map: name one kind")
    if asked.patches:
        return [one for one in [evaluate_patches(config, overrides, say)] if one]
    # A made-up product has its truth beside it.
    if not asked.reference and (asked.map or not config.demo.size):
        raise BenexpError(
            "task=evaluate takes evaluate.patches= with evaluate.metadata=, or evaluate.reference=: name one"
        )
    return [one for one in [evaluate_map(config, overrides, say)] if one]
