"""From products to maps: what `benexp tile_folder=...` does."""

import contextlib
import dataclasses
import json
import logging
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np

from benexp import cores, layers, pipeline
from benexp.classes import CLASSES, NAMES
from benexp.config import Config, config_hash, digest
from benexp.errors import BenexpError
from benexp.files import replacing
from benexp.grid import PatchGrid, ProbabilityGrid
from benexp.layers import Layer
from benexp.measure.clocks import StageClocks
from benexp.measure.environment import environment, peak_memory
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.pipeline import Rendered
from benexp.products import find_products, open_product, open_tile
from benexp.products.integrity import check as check_integrity
from benexp.products.tile import Tile
from benexp.rasters import RasterWriter
from benexp.report.preview import write_preview
from benexp.report.tables import write_areas, write_classmap
from benexp.report.viewer import write_viewer
from benexp.tasks.prepare import LazyBackend, backend_class
from benexp.version import __version__

log = logging.getLogger("benexp")


def run(config: Config, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Classify every product the configuration names; their records.

    Raises BenexpError where one cannot be classified: at once if it is the only one, else after the others are done.
    """
    backend_class(config.backend)
    made_layers = layers.build(dataclasses.asdict(config.layers), NAMES)
    if "class" not in config.layers.names:
        raise BenexpError(f"layers.names={config.layers.names}: must have class in it, which the reports are made from")
    products = _products(config)
    spec = resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    records, failures = [], []
    with LazyBackend(config.backend, spec) as backend:
        for product in products:
            job = _Job(product, config, overrides, spec, made_layers, backend)
            try:
                records.extend(job.plan() if config.dry_run else job.run())
            except BenexpError as error:
                if len(products) == 1:
                    raise
                failures.append(product.name)
                log.error("%s: %s", product.name, error)
    if failures:
        raise BenexpError(f"{len(failures)} of {len(products)} products failed: {', '.join(failures)}")
    return records


def _products(config: Config) -> list[Path]:
    named = [key for key in ("tile_folder", "input_dir", "demo") if getattr(config, key)]
    if len(named) != 1:
        raise BenexpError(
            f"{' and '.join(named)} exclude each other: name one"
            if named
            else "tile_folder= is missing: name a product, a folder of products with input_dir=, or say experiment=demo"
        )
    if config.demo:
        from benexp.demo.product import write_product

        with _writable(Path(config.output_folder)):
            return [write_product(Path(config.output_folder) / "products", config.demo.size, config.demo.seed)[0]]
    if config.input_dir:
        return find_products(Path(config.input_dir).expanduser())
    assert config.tile_folder
    path = Path(config.tile_folder)
    return [path if path.exists() else path.expanduser()]


@contextlib.contextmanager
def _writable(folder: Path) -> Any:
    """Turn the system's refusal to write into one line that names the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise BenexpError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


@dataclasses.dataclass
class _Job:
    """One product on its way to a folder of results."""

    product: Path
    config: Config
    overrides: Sequence[str]
    spec: ModelSpec
    layers: list[Layer]
    backend: LazyBackend

    def run(self) -> list[dict[str, Any]]:
        started = time.perf_counter()
        clocks = StageClocks()
        with clocks.stage("open"):
            tile = self._open()
        with tile, ThreadPoolExecutor(1, "integrity") as pool:
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            folder = Path(self.config.output_folder) / tile.name
            with _writable(folder):
                # Verified while the model runs; nothing is published before it is known to be sound.
                sound = pool.submit(check_integrity, tile.product, self.config.integrity, self.spec.bands)
                grid, about = self._grid(tile, patches, folder, clocks)
                sound.result()
                rendered = self._render(tile, grid, folder, about, clocks)
                record = self._record(tile, grid, rendered, about, clocks, started)
                self._report(tile, rendered, folder, record)
        _summarise(folder, record)
        return [record]

    def plan(self) -> list[dict[str, Any]]:
        """Print what a run would take."""
        with self._open() as tile:
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            chunks = patches.chunks(self.config.chunking.chunk_size)
            chunk = max(c.window.height * c.window.width for c in chunks) * len(self.spec.bands) * 2
            height, width = tile.shape
            pixel_bytes = sum(layer.bands * np.dtype(layer.dtype).itemsize for layer in self.layers)
            plan = {
                "tile": tile.name,
                "pixels": f"{width} x {height}",
                "patches": patches.shape[0] * patches.shape[1],
                "chunks": len(chunks),
                # Three chunks: being read, waiting, being classified; then the decoded blocks and the mask.
                "memory_gb": round((3 * chunk + tile.cache_bytes + height * width) / 1e9 + 0.8, 2),
                "disk_gb": round(height * width * pixel_bytes / 1e9, 2),
            }
        print(
            f"{plan['tile']}: {plan['pixels']} pixels; {plan['patches']} patches; chunks: {plan['chunks']}; "
            f"about {plan['memory_gb']} GB of memory and the model's; at most {plan['disk_gb']} GB on disk"
        )
        return [plan]

    def _open(self) -> Tile:
        region = self.config.region
        tile = open_tile(
            open_product(self.product),
            self.spec.bands,
            offset=self.config.offset,
            region=dataclasses.asdict(region) if region.pixels or region.bbox else None,
            scl_mask=tuple(self.config.mask.scl),
        )
        for warning in tile.warnings:
            log.warning("%s: %s", tile.name, warning)
        return tile

    def _grid(
        self, tile: Tile, patches: PatchGrid, folder: Path, clocks: StageClocks
    ) -> tuple[ProbabilityGrid, dict[str, Any]]:
        """The probability grid, saved or new, and what made it."""
        chunking = self.config.chunking
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
                "backend": self.config.backend["_target_"],
                "precision": self.config.backend.get("precision"),
                "version": __version__,
            }
        )
        path = folder / f"{tile.name}_grid.npz"
        if self.config.resume and (saved := ProbabilityGrid.load(path, key, patches)):
            grid, about = saved
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
        about = {"grid_key": key, "backend": backend.describe(), "reused": False}
        with clocks.stage("write"):
            grid.save(path, about)
        return grid, about

    def _render(
        self, tile: Tile, grid: ProbabilityGrid, folder: Path, about: dict[str, Any], clocks: StageClocks
    ) -> Rendered:
        """Write all rasters under temporary names, and give them their own only when the last one is whole."""
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
                # From here on results of an earlier run are replaced: its record no longer holds.
                (folder / "run.json").unlink(missing_ok=True)
                for writer in writers:
                    writer.publish()
        return rendered

    def _record(
        self,
        tile: Tile,
        grid: ProbabilityGrid,
        rendered: Rendered,
        about: dict[str, Any],
        clocks: StageClocks,
        started: float,
    ) -> dict[str, Any]:
        """What was asked, what ran, what was measured; `_report` adds what came out."""
        return {
            "tile": tile.name,
            "product": str(self.product),
            "shape": list(tile.shape),
            "crs": str(tile.crs),
            "transform": list(tile.transform)[:6],
            "command": shlex.join(["benexp", *self.overrides]),
            "config": dataclasses.asdict(self.config),
            "config_hash": config_hash(self.config),
            "grid_key": about["grid_key"],
            "grid_reused": about["reused"],
            "map_hash": rendered.map_hash,
            "model": {key: value for key, value in dataclasses.asdict(self.spec).items() if key != "path"},
            "backend": about["backend"],
            "offsets": tile.offsets,
            "patches": {"all": grid.classified.size, "classified": int(grid.classified.sum())},
            "valid_pixels": int(grid.valid.sum()),
            "warnings": list(tile.warnings),
            "seconds": round(time.perf_counter() - started, 3),
            "stage_seconds": clocks.rounded(),
            "peak_memory_bytes": peak_memory(),
            "environment": environment(),
        }

    def _report(self, tile: Tile, rendered: Rendered, folder: Path, record: dict[str, Any]) -> None:
        """Write what people look at, and last of all run.json, whose presence means that the tile is complete."""
        areas, classmap, preview, viewer = (
            folder / name for name in ("areas.csv", f"{tile.name}_classmap.json", "preview.png", "viewer.html")
        )
        pixel_area = abs(tile.transform.a * tile.transform.e)
        write_areas(areas, rendered.pixels, pixel_area, CLASSES)
        write_classmap(classmap, self.spec.classes)
        write_preview(
            preview,
            *tile.thumbnail(max(rendered.thumbnail.shape)),
            rendered.thumbnail,
            CLASSES,
            tile.name,
            rendered.pixels,
        )
        rasters = [folder / f"{tile.name}_{layer.name}.tif" for layer in self.layers]
        write_viewer(viewer, record, preview, rendered.pixels, pixel_area, [*rasters, areas, classmap, preview])
        record["files"] = {path.name: _described(path) for path in [*rasters, areas, classmap, preview, viewer]}
        with replacing(folder / "run.json") as temporary:
            temporary.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": file_digest(file, "sha256").hexdigest()}


def _summarise(folder: Path, record: dict[str, Any]) -> None:
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record["stage_seconds"].items())
    patches = "the saved grid was reused" if record["grid_reused"] else f"{record['patches']['classified']} patches"
    print(f"{record['tile']}: {patches}, {record['seconds']:.1f} s in all (busy: {stages})")
    print(f"written to {folder}:")
    for name, about in record["files"].items():
        print(f"  {about['bytes'] / 1e6:9.2f} MB  {name}")
