"""From products to maps: what `benexp tile_folder=...` does."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.config.concurrent_jobs import in_company
from benexp.config.hashing import digest
from benexp.config.schema import Config
from benexp.core import cores
from benexp.core.classes import NAMES
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.core.installed import installed_version
from benexp.core.progress import progress
from benexp.mapping import layers, pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.mapping.layers import Layer
from benexp.mapping.pipeline import Rendered
from benexp.mapping.plausibility import Content, check_answers
from benexp.mapping.resume import UnfinishedGrid, forget
from benexp.models.spec import ModelSpec
from benexp.products.integrity import check as check_integrity
from benexp.products.tile import Tile
from benexp.report.collection import write_collection
from benexp.report.stac import item_name, write_item
from benexp.runs import outputs
from benexp.runs.backend_setup import LazyBackend, backend_class, backend_name, exported_at, make_artefact, model_of
from benexp.runs.estimate import plan
from benexp.runs.inputs import open_input, output_folder, output_folder_alone, products, results_folder
from benexp.runs.quantization import calibration_for_backend
from benexp.version import __version__
from exporters.calibration import Calibration

if TYPE_CHECKING:
    from benexp.execution.distribution import Elsewhere

log = logging.getLogger("benexp")

NOT_IN_GRID_KEY = ("batch_size", "threads")
"""What changes of a backend leave its answers as they are."""


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Classify every product the configuration names; their records. `say` is told what was done, in words.

    Raises BenexpError where one cannot be classified: at once if it is the only one, else after the others are done.
    """
    backend_class(config.backend)
    made_layers = checked_layers(config)
    found = products(config)
    if config.dry_run:
        return [plan(product, config, made_layers, say) for product in found]
    spec = model_of(config, config.backend)
    with _alone(config):
        return _all(config, overrides, spec, found, say)


def _alone(config: Config) -> contextlib.AbstractContextManager[None]:
    """Keep other runs from the folder in which this one makes a collection; tiles' folders have locks of their own.

    Jobs of a sweep over `input_dir` that run side by side share a folder, and have other tiles.
    """
    if not in_collection(config) or in_company():
        return contextlib.nullcontext()
    return output_folder_alone(Path(config.output_folder))


def _all(
    config: Config, overrides: Sequence[str], spec: ModelSpec, found: Sequence[Path], say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Classify the products and write the collection; see `run`."""
    outcomes = _spread if config.execution.name != "local" or config.execution.workers > 1 else _in_turn
    made: dict[Path, dict[str, Any]] = {}
    failures: list[str] = []
    many = len(found) > 1
    with contextlib.closing(outcomes(config, overrides, spec, found, say)) as coming:
        for product, outcome in progress(coming, total=len(found), desc="tiles", unit="tile") if many else coming:
            if not isinstance(outcome, BenexpError):
                # What is the same for all tiles is kept once: there may be thousands.
                first = next(iter(made.values()), outcome)
                made[product] = outcome | {key: value for key, value in first.items() if outcome.get(key) == value}
            elif not many:
                raise outcome
            else:
                failures.append(product.name)
                log.error("%s: %s", product.name, outcome)
    records = [made[product] for product in found if product in made]
    if in_collection(config) and records:
        write_collection(Path(config.output_folder), records[0])
    if failures:
        raise BenexpError(f"{len(failures)} of {len(found)} products failed: {', '.join(failures)}")
    return records


Outcomes = Generator[tuple[Path, dict[str, Any] | BenexpError], None, None]
"""Of each product its record, or why there is none."""


def _in_turn(
    config: Config, overrides: Sequence[str], spec: ModelSpec, found: Sequence[Path], say: Callable[[str], object]
) -> Outcomes:
    """In this process, one after the other."""
    calibration = calibration_for_backend(found, config, spec)
    tolerances = config.export.tolerance
    with LazyBackend(config.backend, spec, tolerances=tolerances, calibration=calibration) as backend:
        job = Job(found[0], config, overrides, spec, checked_layers(config), backend.get, calibration, say)
        yield from _each(job, found)


def _spread(
    config: Config, overrides: Sequence[str], spec: ModelSpec, found: Sequence[Path], say: Callable[[str], object]
) -> Outcomes:
    """In workers: tiles as long as there is one for each, then the chunks of those that are left."""
    from benexp.execution.distribution import Elsewhere, classify_tiles, engine, whole_tiles

    calibration = calibration_for_backend(found, config, spec)
    # Or every worker would export the model for itself.
    make_artefact(config.backend, spec, config.export.tolerance, calibration)
    with engine(config, overrides, spec, found) as workers:
        whole = whole_tiles(workers, found)
        taken = set()
        for product, outcome in classify_tiles(workers, whole, say):
            taken |= set() if isinstance(outcome, BenexpError) else {outcome["tile"]}
            yield product, outcome
        elsewhere = functools.partial(Elsewhere, workers)
        job = Job(found[0], config, overrides, spec, checked_layers(config), None, calibration, say, elsewhere)
        yield from _each(job, found[len(whole) :], taken)


def _each(job: "Job", found: Sequence[Path], taken: Collection[str] = ()) -> Outcomes:
    """The job done for each product in turn; none may have a name that is taken."""
    names = set(taken)
    for product in found:
        try:
            record = dataclasses.replace(job, product=product).run(names)
        except BenexpError as error:
            yield product, error
        else:
            names.add(record["tile"])
            yield product, record


def in_collection(config: Config) -> bool:
    """Whether the tiles of this run get a collection over them."""
    return bool(config.input_dir) or config.task.name == "benchmark"


def checked_layers(config: Config) -> list[Layer]:
    """The layers that the configuration asks for. Raises BenexpError where one is wrong, or the classes are missing."""
    made = layers.build(dataclasses.asdict(config.layers), NAMES)
    if "class" not in config.layers.names:
        raise BenexpError(f"layers.names={config.layers.names}: must have class in it, which the reports are made from")
    return made


@dataclasses.dataclass
class Job:
    """One product on its way to a folder of results."""

    product: Path
    config: Config
    overrides: Sequence[str]
    spec: ModelSpec
    layers: list[Layer]
    backend: Callable[[], Backend] | None
    """Opens the backend if it is not open yet; asked only where no saved grid is reused. None: see `elsewhere`."""
    calibration: Calibration | None
    say: Callable[[str], object]
    elsewhere: "Callable[[Path, Tile, PatchGrid, int], Elsewhere] | None" = None
    """Has the chunks classified in other processes."""

    def run(self, taken: Collection[str]) -> dict[str, Any]:
        """Classify the product, whose tile must not have one of the `taken` names; its record."""
        started = time.perf_counter()
        clocks = StageClocks()
        with clocks.stage("open"):
            tile = open_input(self.product, self.config, self.spec.bands)
        with tile, ThreadPoolExecutor(1, "integrity") as pool:
            if tile.name in taken:
                raise BenexpError(
                    f"{self.product}: its results would overwrite those of another {tile.name}: rename it"
                )
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            folder = results_folder(self.config, self.product, tile)
            with output_folder(folder), staging(folder) as unfinished:
                # Verified while the model runs: nothing is saved before the files are known to be sound.
                sound = pool.submit(self._verify, tile, clocks)
                grid, about = self._grid(tile, patches, folder, sound, clocks)
                rendered, rasters = self._render(tile, grid, unfinished, about, clocks)
                record = outputs.describe_run(self.config, self.overrides, self.spec, tile, grid, about, rendered)
                record["calibration"] = about["calibration"]
                # As far as it is known when the pages, which show it, are written.
                record["seconds"] = round(time.perf_counter() - started, 3)
                record["stage_seconds"] = clocks.rounded()
                with clocks.stage("report"):
                    saved = (folder if about["reused"] else unfinished) / f"{tile.name}_grid.npz"
                    if not about["reused"]:
                        grid.save(saved, about)
                    item = unfinished / item_name(tile.name)
                    others = [saved, item, unfinished / outputs.RECORD]
                    reports = outputs.write_reports(
                        unfinished, tile, grid, rendered, self.spec.classes, rasters, others, record
                    )
                    made = [*rasters, *reports]
                    write_item(item, record, self.spec, tile.product.sensed, [*made, saved], in_collection(self.config))
                    made.append(item)
                    record["files"] = {path.name: outputs.describe_file(path) for path in [*made, saved]}
                record["seconds"] = round(time.perf_counter() - started, 3)
                record["stage_seconds"] = clocks.rounded()
                outputs.publish(made if about["reused"] else [*made, saved], folder, record)
                forget(folder)
        outputs.summarise(folder, record, self.say, briefly=in_collection(self.config))
        return record

    def _verify(self, tile: Tile, clocks: StageClocks) -> None:
        with clocks.stage("integrity"):
            check_integrity(tile.product, self.config.integrity, self.spec.bands)

    def _grid(
        self, tile: Tile, patches: PatchGrid, folder: Path, sound: "Future[None]", clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """The probability grid, saved or new, and what made it, once the product is known to be `sound`."""
        chunking = self.config.chunking
        backend_key = {key: value for key, value in self.config.backend.items() if key not in NOT_IN_GRID_KEY}
        libraries = backend_class(self.config.backend).libraries
        versions = {name: version for name in libraries if (version := installed_version(name))}
        exported = exported_at(self.config.backend)
        with clocks.stage("integrity"):
            fingerprint = tile.fingerprint
        key = digest(
            {
                "input": fingerprint,
                "region": dataclasses.asdict(self.config.region),
                "weights": self.spec.weights_hash,
                "bands": self.spec.bands,
                "offsets": tile.offsets,
                "mask": sorted(self.config.mask.scl),
                "saturated": self.config.saturated,
                "stride": chunking.stride,
                "patch_size": chunking.patch_size,
                "min_valid": chunking.min_valid,
                "backend": backend_key,
                "libraries": versions,
                # Of the file that runs: a tighter one may refuse it.
                "tolerance": self.config.export.tolerance.get(exported) if exported else None,
                "calibration": self.calibration.key if self.calibration else None,
                "verified": self.config.integrity != "none",
                "version": __version__,
            }
        )
        path = folder / f"{tile.name}_grid.npz"
        if self.config.resume and (saved := ProbabilityGrid.load(path, key, patches, len(self.spec.classes))):
            grid, about = saved
            sound.result()
            return grid, {**about, "reused": True, "resumed_chunks": 0}
        if self.config.resume and path.is_file():
            log.info("%s: configuration, input or benexp changed since its grid was saved: classified anew", tile.name)
        unfinished, content = UnfinishedGrid(folder, key), Content(self.spec.bands)
        if not self.config.resume:
            unfinished.remove()
        grid, description = self._classified(tile, patches, unfinished, content, clocks)
        try:
            sound.result()
            if self.spec.trained and not issubclass(backend_class(self.config.backend), NullBackend):
                check_answers(grid, f"{self.spec.name} on {description['backend']}")
            content.check(grid)
        except BaseException:
            # Else the next run would go on from them, and come to the same.
            unfinished.remove()
            raise
        for warning in (warnings := [*content.gaps(grid), *content.warnings(tile.offset_decision)]):
            log.warning("%s: %s", tile.name, warning)
        about = {
            "grid_key": key,
            "backend": description,
            "warnings": warnings,
            "calibration": self.calibration.source if self.calibration else None,
            "reused": False,
        }
        return grid, {**about, "resumed_chunks": unfinished.restored}

    def _classified(
        self, tile: Tile, patches: PatchGrid, unfinished: UnfinishedGrid, content: Content, clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """The grid, and what the backend says of itself."""
        chunking = self.config.chunking
        if self.elsewhere:
            remote = self.elsewhere(self.product, tile, patches, chunking.chunk_size)
            grid = pipeline.gather(
                lambda chunks: remote.answered(chunks, clocks),
                patches,
                len(self.spec.classes),
                chunk_size=chunking.chunk_size,
                clocks=clocks,
                unfinished=unfinished,
                content=content,
            )
            return grid, remote.describe()
        assert self.backend
        with clocks.stage("load"):
            backend = self.backend()
        grid = pipeline.classify(
            tile,
            backend,
            patches,
            chunk_size=chunking.chunk_size,
            min_valid=chunking.min_valid,
            clocks=clocks,
            unfinished=unfinished,
            content=content,
        )
        clocks.add("decode", tile.decode_seconds)
        clocks.add("assemble", tile.assemble_seconds)
        return grid, backend.describe()

    def _render(
        self, tile: Tile, grid: ProbabilityGrid, folder: Path, about: dict[str, Any], clocks: StageClocks
    ) -> tuple[Rendered, list[Path]]:
        """Write all rasters; what was written, sidecars before the GeoTIFF that they belong to."""
        tags = outputs.tags(self.config, self.spec, tile) | {
            "BACKEND": backend_name(self.config.backend),
            "PRECISION": str(about["backend"]["precision"]),
        }
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(
                    RasterWriter(
                        folder / f"{tile.name}_{layer.name}.tif",
                        layer,
                        shape=tile.shape,
                        crs=tile.crs,
                        transform=tile.transform,
                        tags=tags,
                        class_names=self.spec.classes,
                    )
                )
                for layer in self.layers
            ]
            rendered = pipeline.render(
                grid,
                writers,
                self.spec.classes,
                blend_shape=self.config.chunking.blend,
                clocks=clocks,
                threads=cores.available(),
            )
            with clocks.stage("write"):
                for writer in writers:
                    writer.finish()
                    writer.publish()
        return rendered, [file for writer in writers for file in writer.files]
