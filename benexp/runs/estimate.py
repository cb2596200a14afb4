"""The memory and disk space that a run would take, for `dry_run=true` and the first check of a benchmark."""

import dataclasses
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benexp.config.schema import Chunking, Config
from benexp.core import cores
from benexp.core.classes import NAMES
from benexp.core.errors import BenexpError
from benexp.mapping.cog import BLOCK, CACHE
from benexp.mapping.grid import Chunk, PatchGrid
from benexp.mapping.layers import Format
from benexp.measure.environment import available_memory
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.products.region import TileRegion, region_of
from benexp.records.figures import Estimate
from benexp.runs.backend_choice import BackendChoice
from benexp.runs.inputs import Reading, open_input

log = logging.getLogger("benexp")

BASE = 0.13e9
"""Bytes that a process has with all that benexp imports, and no engine."""
ENGINES = {"nothing": 0.0, "checkpoint": 0.35e9, "onnx": 0.1e9, "openvino": 0.25e9}
"""Bytes that an engine adds, by what it needs; one that is not listed counts as the largest."""
WEIGHTS = 0.1e9
"""Bytes of a model that is not at hand yet: a resnet50's."""
COPIES = 2
"""The number of copies of the weights that an engine holds: as they are read, and as it keeps them."""
PER_PATCH = 4e6
"""Bytes of activations for each patch of a batch: of the published networks at fp32, some more, some less."""
COMPRESSED = 0.7
"""The size of layers on disk as a share of their uncompressed size: 0.63 to 0.72 for tiles of 1500 to 3000 pixels a
side, less where the content is uniform: 0.06 to 0.13 for a synthetic tile at stride 120."""
UNCERTAIN = 2
"""The largest factor by which measured peaks of memory differed from the estimate."""


@dataclasses.dataclass(frozen=True)
class DryRun:
    """The size of a run, as `dry_run=true` prints it."""

    tile: str
    pixels: str
    patches: int
    chunks: int
    memory_gb: float
    disk_gb: float


def estimate(
    region: TileRegion,
    chunking: Chunking,
    backend: BackendChoice,
    layers: Sequence[Format],
    spec: ModelSpec | None = None,
) -> Estimate:
    """The memory and disk that a region takes with these layers; the model's weights need not be at hand."""
    tile, chunks = region.tile, _chunks(region, chunking)
    chunk = max(c.window.height * c.window.width for c in chunks) * len(tile.bands) * 2
    pixels = region.shape[0] * region.shape[1]
    pixel_bytes = sum(layer.bands * np.dtype(layer.dtype).itemsize for layer in layers)
    # Every thread blends a block, and as many again hold the layers that are waiting to be written.
    at_once = min(pixels, cores.available() * BLOCK**2)
    rendering = at_once * (2 * 4 * len(NAMES) + 3 * pixel_bytes)
    # Chunks: one being read, one waiting, one being classified.
    reading = min(3, len(chunks)) * chunk + tile.cache_bytes
    written = min(CACHE, pixels * pixel_bytes)
    memory = BASE + reading + pixels + rendering + written + _engine(backend, spec)
    return Estimate(round(memory), round(COMPRESSED * pixels * pixel_bytes))


def _chunks(region: TileRegion, chunking: Chunking) -> list[Chunk]:
    patches = PatchGrid(region.tile.shape, chunking.patch_size, chunking.stride)
    wanted = np.zeros(patches.shape, bool)
    wanted[patches.touching(region.window)] = True
    return patches.chunks(chunking.chunk_size, wanted)


def _engine(backend: BackendChoice, spec: ModelSpec | None) -> float:
    needs = backend.kind.needs
    if needs == "nothing":
        return 0.0
    weights = WEIGHTS
    if spec:
        files = [spec.path] if spec.path.is_file() else [*spec.path.glob("*.safetensors")]
        weights = sum(file.stat().st_size for file in files)
    batch = backend.settings.get("batch_size", 32)
    patches = batch if isinstance(batch, int) else 32
    return ENGINES.get(needs, max(ENGINES.values())) + COPIES * weights + patches * PER_PATCH


def check_fits(estimates: Sequence[Estimate], folder: Path, must_fit: bool, say: Callable[[str], object]) -> None:
    """Say what the tiles take, one after the other, and what there is; warn where that may be too little.

    Raises BenexpError where it is too little even for an estimate that is too high by UNCERTAIN, unless not `must_fit`.
    """
    memory, disk = max(one.memory_bytes for one in estimates), sum(one.disk_bytes for one in estimates)
    there, free = available_memory(), shutil.disk_usage(folder).free
    say(
        f"estimate: about {memory / 1e9:.2f} GB of memory ({there / 1e9:.1f} free), "
        f"about {disk / 1e9:.2f} GB on disk ({free / 1e9:.1f} free)"
    )
    smaller = "choose a smaller chunking.chunk_size or backend.batch_size, or end other programs"
    _check(memory, there, "of memory", smaller, must_fit)
    room = f"make room on the disk of {folder}, choose another output_folder, or fewer layers"
    _check(disk, free, "on disk", room, must_fit)


def _check(needed: int, there: int, what: str, remedy: str, must_fit: bool) -> None:
    words = f"needs about {needed / 1e9:.1f} GB {what}, and {there / 1e9:.1f} GB are free"
    if must_fit and needed > UNCERTAIN * there:
        raise BenexpError(f"{words}: {remedy}; or try it all the same with benchmark.must_fit=false")
    if needed > there:
        log.warning("%s, which may be too little: %s", words, remedy)


def dry_run(
    product: Path, config: Config, backend: BackendChoice, layers: Sequence[Format], say: Callable[[str], object]
) -> DryRun:
    """Print what a run would take. Needs neither the model's weights nor a place to write to."""
    chunking, bands, spec = config.chunking, config.model.bands, None
    if config.model.weights == "onnx":
        spec = resolve(dataclasses.asdict(config.model), patch_size=chunking.patch_size)
        bands = list(spec.bands)
    with open_input(product, Reading.of(config), bands) as tile:
        region = region_of(tile, dataclasses.asdict(config.region))
        chunks = _chunks(region, chunking)
        takes = estimate(region, chunking, backend, layers, spec)
        found = DryRun(
            tile=tile.name,
            pixels=f"{region.shape[1]} x {region.shape[0]}",
            patches=sum(int(chunk.wanted.sum()) for chunk in chunks),
            chunks=len(chunks),
            memory_gb=round(takes.memory_bytes / 1e9, 2),
            disk_gb=round(takes.disk_bytes / 1e9, 2),
        )
    say(
        f"{found.tile}: {found.pixels} pixels; {found.patches} patches; chunks: {found.chunks}; "
        f"about {found.memory_gb} GB of memory; about {found.disk_gb} GB on disk"
    )
    return found
