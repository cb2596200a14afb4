"""The process in which one configuration is measured: a model loaded once, then tile after tile until one fails."""

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benexp.backends.base import Backend
from benexp.benchmarking.child_process import answer
from benexp.benchmarking.verdicts import read_conditions, run_verdicts
from benexp.core.clocks import StageClocks
from benexp.core.console import set_up_logging
from benexp.core.errors import BenexpError, one_line
from benexp.measure.environment import environment
from benexp.measure.resources import ResourceSampler
from benexp.measure.statistics import histogram, percentiles
from benexp.models.synthetic import varied_patches
from benexp.products import open_product
from benexp.runs.plan import RunPlan
from benexp.runs.tile_grid import LocalClassifier
from benexp.runs.tile_run import run_tile

log = logging.getLogger("benexp")

Tell = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Request:
    """The measurements to make: `todo` are those of the plan's products that are left, `taken` the names of tiles done.

    `warmup` counts the batches before the first of them.
    """

    plan: RunPlan
    todo: Sequence[Path]
    taken: Collection[str]
    warmup: int


def measure(request: Request, tell: Tell) -> None:
    """Tell `ready` when the model is, and of each product that it `begins` and `ends`; or why nothing could, `failed`.

    The first product that fails is the last.
    """
    set_up_logging()
    # Now: it asks git, whose process looks as large as this one for a moment, and would be found in the peak.
    environment()
    # The work of an earlier run would be missing from the time: whole measurements are reused, not grids.
    plan = dataclasses.replace(request.plan, resume=False)
    try:
        backend = plan.make_backend()
        backend.open()
    except Exception as error:
        tell({"failed": _words(error)})
        return
    try:
        clocks = StageClocks()
        with clocks.stage("warmup"):
            _warm(backend, request.warmup)
        tell({"ready": {"open_seconds": backend.open_seconds | clocks.rounded(), "backend": backend.describe()}})
        taken = set(request.taken)
        for product in request.todo:
            tell({"begins": str(product)})
            found = _measured(plan, product, backend, taken)
            tell({"ends": str(product), "found": found})
            if found["status"] == "failed":
                # What broke it may have broken the engine, too, as errors of CUDA do: the next process is a fresh one.
                return
            taken.add(found["tile"])
    finally:
        backend.close()


def _warm(backend: Backend, batches: int) -> None:
    """Classify so many batches: processors and GPUs raise their clocks only when there is work."""
    spec = backend.spec
    chunk = varied_patches(spec.bands, 1, spec.patch_size, seed=5)[0].astype(np.uint16)
    origins = np.zeros((batches * backend.batch_size, 2), np.int64)
    backend.classify(chunk, np.ones(chunk.shape[1:], bool), origins)


def _measured(plan: RunPlan, product: Path, backend: Backend, taken: Collection[str]) -> dict[str, Any]:
    """Classify one product under the eyes of all instruments; what they say, be the tile done or failed."""
    latencies: list[float] = []
    found: dict[str, Any] = {"status": "done", "error": None}
    try:
        _read_once(product, plan.spec.bands)
        warm = backend.describe()
        backend.on_batch = latencies.append
        before = read_conditions()
        sampler = ResourceSampler(backend.device)
        try:
            with sampler:
                record = run_tile(plan, product, LocalClassifier(plan, lambda _: backend), lambda _: None, taken)
        finally:
            backend.on_batch = None
        found |= {
            "tile": record.tile,
            "folder": record.folder,
            "stage_seconds": record.stage_seconds,
            "patches": record.patches.classified,
            "km2": record.shape[0] * record.shape[1] / 10_000,
            "map_hash": record.map_hash,
            "output_bytes": sum(file.bytes for file in record.files.values()),
            "files": len(record.files),
            "batches": len(latencies),
            "latency_seconds": percentiles(latencies),
            "latency_histogram": histogram(latencies),
            "backend": record.backend,
            "range_patches": record.range_patches,
        }
        verdicts = run_verdicts(record.backend, warm, sampler.usage, before, read_conditions())
        found |= {
            "seconds": sampler.usage.seconds,
            "usage": dataclasses.asdict(sampler.usage.summary()),
            "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts],
        }
    # Whatever goes wrong with a tile is a row of the report.
    except Exception as error:
        if not isinstance(error, BenexpError) and "HYDRA_FULL_ERROR" in os.environ:
            log.exception("%s", product)
        found = {"status": "failed", "error": _words(error)}
    return found


def _read_once(product: Path, bands: Sequence[str]) -> None:
    """Read the product's files, so that they lie in the system's cache whichever configuration comes first."""
    opened = open_product(product)
    inside = opened.path.is_dir()
    # The scene classification is read for masks, and where the files are verified.
    read = [*opened.band_files(bands), *([opened.scl] if opened.scl else [])]
    files = {opened.path / band.file if inside else opened.path for band in read}
    for file in files:
        with file.open("rb", buffering=0) as bytes_:
            while bytes_.read(1 << 24):
                pass


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, BenexpError) else f"unexpected {one_line(error)}"


if __name__ == "__main__":
    answer(measure)
