"""From products to maps: what `benexp tile_folder=...` does."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benexp import cores, layers, pipeline
from benexp.classes import NAMES
from benexp.config import Config, digest
from benexp.errors import BenexpError
from benexp.files import staging
from benexp.grid import PatchGrid, ProbabilityGrid
from benexp.layers import Layer
from benexp.measure.clocks import StageClocks
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.pipeline import Rendered
from benexp.products import find_products, open_product, open_tile
from benexp.products.integrity import check as check_integrity
from benexp.products.tile import Tile
from benexp.rasters import RasterWriter
from benexp.tasks import results
from benexp.tasks.prepare import LazyBackend, backend_class
from benexp.version import __version__

log = logging.getLogger("benexp")

NOT_IN_GRID_KEY = ("batch_size", "threads", "device")
"""What changes of a backend leave its answers as they are."""


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Classify every product the configuration names; their records. `say` is told what was done, in words.

    Raises BenexpError where one cannot be classified: at once if it is the only one, else after the others are done.
    """
    backend_class(config.backend)
    made_layers = layers.build(dataclasses.asdict(config.layers), NAMES)
    if "class" not in config.layers.names:
        raise BenexpError(f"layers.names={config.layers.names}: must have class in it, which the reports are made from")
    products = _products(config)
    if config.dry_run:
        return [_plan(product, config, made_layers, say) for product in products]
    spec = resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    records: list[dict[str, Any]] = []
    failures: list[str] = []
    with LazyBackend(config.backend, spec) as backend:
        for product in products:
            job = _Job(product, config, overrides, spec, made_layers, backend, say)
            try:
                records.append(job.run(taken={record["tile"] for record in records}))
            except BenexpError as error:
                if len(products) == 1:
                    raise
                failures.append(product.name)
                log.error("%s: %s", product.name, error)
    if failures:
        raise BenexpError(f"{len(failures)} of {len(products)} products failed: {', '.join(failures)}")
    return records


def _products(config: Config) -> list[Path]:
    asked = {"tile_folder": config.tile_folder, "input_dir": config.input_dir, "demo.size": config.demo.size}
    named = [key for key, value in asked.items() if value]
    if len(named) != 1:
        raise BenexpError(
            f"{' and '.join(named)} exclude each other: name one"
            if named
            else "tile_folder= is missing: name a product, a folder of products with input_dir=, or say experiment=demo"
        )
    if config.demo.size:
        from benexp.demo.product import write_product

        with _output_folder(Path(config.output_folder)):
            return [write_product(Path(config.output_folder) / "products", config.demo.size, config.demo.seed)[0]]
    if config.input_dir:
        return find_products(Path(config.input_dir).expanduser())
    assert config.tile_folder
    path = Path(config.tile_folder)
    path = path if path.exists() else path.expanduser()
    open_product(path)  # a wrong path is told before weights are fetched for it
    return [path]


@contextlib.contextmanager
def _output_folder(folder: Path) -> Iterator[None]:
    """Make the folder; turn the system's refusal to write in it into one line, and leave no empty one behind."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # not empty: there are results, of this run or an earlier one
                folder.rmdir()
    except OSError as error:
        raise BenexpError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


def _open(product: Path, config: Config, bands: Sequence[str]) -> Tile:
    region = config.region
    tile = open_tile(
        open_product(product),
        bands,
        offset=config.offset,
        region=dataclasses.asdict(region) if region.pixels or region.bbox else None,
        scl_mask=tuple(config.mask.scl),
    )
    for warning in tile.warnings:
        log.warning("%s: %s", tile.name, warning)
    return tile


def _plan(product: Path, config: Config, made_layers: Sequence[Layer], say: Callable[[str], object]) -> dict[str, Any]:
    """Say what a run would take. Needs neither the model's weights nor a place to write to."""
    bands = config.model.bands
    if config.model.weights == "onnx":
        bands = list(resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size).bands)
    with _open(product, config, bands) as tile:
        patches = PatchGrid(tile.shape, config.chunking.patch_size, config.chunking.stride)
        chunks = patches.chunks(config.chunking.chunk_size)
        chunk = max(c.window.height * c.window.width for c in chunks) * len(bands) * 2
        height, width = tile.shape
        pixel_bytes = sum(layer.bands * np.dtype(layer.dtype).itemsize for layer in made_layers)
        plan = {
            "tile": tile.name,
            "pixels": f"{width} x {height}",
            "patches": patches.shape[0] * patches.shape[1],
            "chunks": len(chunks),
            # Three chunks (being read, waiting, being classified), the decoded blocks, the mask, and the libraries.
            "memory_gb": round((3 * chunk + tile.cache_bytes + height * width) / 1e9 + 0.8, 2),
            "disk_gb": round(height * width * pixel_bytes / 1e9, 2),
        }
    say(
        f"{plan['tile']}: {plan['pixels']} pixels; {plan['patches']} patches; chunks: {plan['chunks']}; "
        f"about {plan['memory_gb']} GB of memory and the model's; at most {plan['disk_gb']} GB on disk"
    )
    return plan


@dataclasses.dataclass
class _Job:
    """One product on its way to a folder of results."""

    product: Path
    config: Config
    overrides: Sequence[str]
    spec: ModelSpec
    layers: list[Layer]
    backend: LazyBackend
    say: Callable[[str], object]

    def run(self, taken: Collection[str]) -> dict[str, Any]:
        """Classify the product, whose tile must not have one of the `taken` names; its record."""
        started = time.perf_counter()
        clocks = StageClocks()
        with clocks.stage("open"):
            tile = _open(self.product, self.config, self.spec.bands)
        with tile, ThreadPoolExecutor(1, "integrity") as pool:
            if tile.name in taken:
                raise BenexpError(
                    f"{self.product}: its results would overwrite those of another {tile.name}: rename it"
                )
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            folder = Path(self.config.output_folder) / tile.name
            if folder.resolve().is_relative_to(self.product.resolve()):
                raise BenexpError(f"output_folder={self.config.output_folder}: results would lie inside {self.product}")
            with _output_folder(folder), staging(folder) as unfinished:
                # Verified while the model runs: nothing is saved before the files are known to be sound.
                sound = pool.submit(check_integrity, tile.product, self.config.integrity, self.spec.bands)
                grid, about = self._grid(tile, patches, folder, sound, clocks)
                rendered, rasters = self._render(tile, grid, unfinished, about, clocks)
                record = results.describe_run(self.config, self.overrides, self.spec, tile, grid, about, rendered)
                record["seconds"] = round(time.perf_counter() - started, 3)
                record["stage_seconds"] = clocks.rounded()
                reports = results.write_reports(unfinished, tile, rendered, self.spec.classes, rasters, record)
                saved = folder / f"{tile.name}_grid.npz"
                record["files"] = {path.name: results.describe_file(path) for path in [*rasters, *reports, saved]}
                results.publish([*rasters, *reports], folder, record)
        results.summarise(folder, record, self.say)
        return record

    def _grid(
        self, tile: Tile, patches: PatchGrid, folder: Path, sound: "Future[None]", clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """The probability grid, saved or new, and what made it, once the product is known to be `sound`."""
        chunking = self.config.chunking
        backend_key = {key: value for key, value in self.config.backend.items() if key not in NOT_IN_GRID_KEY}
        key = digest(
            {
                "input": tile.fingerprint,
                "region": dataclasses.asdict(self.config.region),
                "weights": self.spec.weights_hash,
                "bands": self.spec.bands,
                "offsets": tile.offsets,
                "mask": sorted(self.config.mask.scl),
                "stride": chunking.stride,
                "patch_size": chunking.patch_size,
                "min_valid": chunking.min_valid,
                "backend": backend_key,
                "verified": self.config.integrity != "none",
                "version": __version__,
            }
        )
        path = folder / f"{tile.name}_grid.npz"
        if self.config.resume and (saved := ProbabilityGrid.load(path, key, patches)):
            grid, about = saved
            sound.result()
            return grid, {**about, "reused": True}
        with clocks.stage("load"):
            backend = self.backend.get()
        grid = pipeline.classify(
            tile,
            backend,
            patches,
            chunk_size=chunking.chunk_size,
            min_valid=chunking.min_valid,
            clocks=clocks,
        )
        clocks.add("decode", tile.decode_seconds)
        sound.result()
        about = {"grid_key": key, "backend": backend.describe(), "reused": False}
        with clocks.stage("write"):
            grid.save(path, about)
        return grid, about

    def _render(
        self, tile: Tile, grid: ProbabilityGrid, folder: Path, about: dict[str, Any], clocks: StageClocks
    ) -> tuple[Rendered, list[Path]]:
        """Write all rasters; what was written, sidecars before the GeoTIFF that they belong to."""
        tags = {
            "BENEXP_VERSION": __version__,
            "MODEL": self.spec.name,
            "REVISION": self.spec.revision or self.spec.weights_hash[:16],
            "WEIGHTS": self.spec.source
            if self.spec.trained
            else "RANDOM WEIGHTS: for speed runs, not a land-cover map",
            "BACKEND": str(about["backend"]["backend"]),
            "PRECISION": str(about["backend"]["precision"]),
            "STRIDE": str(self.config.chunking.stride),
            "BLEND": self.config.chunking.blend,
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
