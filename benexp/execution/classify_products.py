"""All products of a run, classified in this process or by workers, and the collection over them."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from benexp.config.concurrent_jobs import runs_concurrently
from benexp.core.errors import BenexpError
from benexp.core.progress import progress
from benexp.records.run import RunRecord
from benexp.report.collection import write_collection
from benexp.runs.backend_choice import LazyBackend
from benexp.runs.inputs import output_folder_alone
from benexp.runs.plan import RunPlan
from benexp.runs.tile_grid import LocalClassifier
from benexp.runs.tile_run import Outcomes, run_tiles

log = logging.getLogger("benexp")


def classify_products(plan: RunPlan, say: Callable[[str], object]) -> list[RunRecord]:
    """Classify the products of the plan and write the collection; their records. `say` prints what was done.

    Raises BenexpError where one cannot be classified: at once if it is the only one, else after the others are done.
    """
    with _alone(plan), contextlib.closing(_outcomes(plan, say)) as coming:
        made: dict[Path, RunRecord] = {}
        failures: list[str] = []
        count = len(plan.products)
        for product, outcome in progress(coming, total=count, desc="tiles", unit="tile") if count > 1 else coming:
            if not isinstance(outcome, BenexpError):
                made[product] = _sharing(outcome, next(iter(made.values()), outcome))
            elif count == 1:
                raise outcome
            else:
                failures.append(product.name)
                log.error("%s: %s", product.name, outcome)
        records = [made[product] for product in plan.products if product in made]
        if plan.in_collection and records:
            write_collection(plan.output_folder, records[0].config_hash)
        if failures:
            raise BenexpError(f"{len(failures)} of {count} products failed: {', '.join(failures)}")
    return records


def _sharing(record: RunRecord, first: RunRecord) -> RunRecord:
    """The record, with the objects of the first one where they are equal: there may be thousands of tiles."""
    alike = {
        one.name: getattr(first, one.name)
        for one in dataclasses.fields(record)
        if getattr(first, one.name) == getattr(record, one.name)
    }
    return dataclasses.replace(record, **alike)


def _alone(plan: RunPlan) -> contextlib.AbstractContextManager[None]:
    """Keep other runs from the folder in which this one makes a collection; tiles' folders have locks of their own.

    Concurrent jobs of a sweep over `input_dir` share a folder, and have other tiles.
    """
    if not plan.in_collection or runs_concurrently():
        return contextlib.nullcontext()
    return output_folder_alone(plan.output_folder)


def _outcomes(plan: RunPlan, say: Callable[[str], object]) -> Outcomes:
    if plan.execution.name != "local" or plan.execution.workers > 1:
        from benexp.execution.distribution import distribute

        yield from distribute(plan, say)
    else:
        with LazyBackend(plan.make_backend) as backend:
            yield from run_tiles(plan, plan.products, LocalClassifier(plan, backend.get), say)
