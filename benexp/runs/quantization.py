"""The patches of a run's own products that int8 is calibrated on, and that exported files are checked on."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benexp.config.hashing import digest
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.mapping.grid import Chunk, PatchGrid, valid_share
from benexp.models.spec import ModelSpec
from benexp.products.tile import Tile
from benexp.runs.backend_choice import BackendChoice
from benexp.runs.inputs import Reading, open_input
from exporters.ranges import RangePatches

log = logging.getLogger("benexp")

PRODUCTS = 8
"""The largest number of products that patches are read from."""
SIDE = 4
"""Patches are read in windows of so many by so many: a single one costs the decoding of a whole block, too."""
BLOCK = 1024
"""Pixels a side of the blocks that Sentinel-2's JPEG2000 files are decoded in, at 10 m."""
VALID = 0.5
"""The share of a patch that is valid at least."""


def range_patches_for(
    products: Sequence[Path], config: Config, spec: ModelSpec, *backends: BackendChoice
) -> RangePatches | None:
    """The patches that `backends` are quantised on.

    None unless one of them runs an exported file at int8 and the model is no int8 file yet.
    """
    if spec.precision == "int8" or all(backend.exported_at != "int8" for backend in backends):
        return None
    return range_patches_of(products, config, spec)


def range_patches_of(products: Sequence[Path], config: Config, spec: ModelSpec) -> RangePatches:
    """`config.quantization.patches` patches, spread over at most eight of the products and over each of them.

    Pixels are read when they are asked for. Raises BenexpError where none of these products can be opened, and on
    reading where none has a patch that is half valid; where only some have, the others are named in a warning.
    """
    reading = Reading.of(config)
    shares: dict[Path, int] = {}
    names, keys, problems = [], [], []
    for product, count in _shares(products, config.quantization.patches).items():
        try:
            with open_input(product, reading, spec.bands, warn=False) as tile:
                names.append(tile.name)
                keys.append([tile.fingerprint, tile.offsets])
                shares[product] = count
        except BenexpError as error:
            problems.append(error)
    _warn(problems, bool(shares))

    return RangePatches(
        key=digest(
            {
                "tiles": keys,
                "mask": sorted(reading.scl_mask),
                "saturated": reading.saturated,
                "patches": config.quantization.patches,
                "patch_size": spec.patch_size,
                "bands": spec.bands,
            }
        ),
        source=f"up to {config.quantization.patches} patches of {', '.join(names)}",
        # A partial, not a closure: plans are sent to workers.
        read=functools.partial(_read_shares, shares, reading, spec),
    )


def _read_shares(shares: Mapping[Path, int], reading: Reading, spec: ModelSpec) -> npt.NDArray[np.float32]:
    """The patches [n, bands, p, p] of each product's share, in model DN."""
    parts, problems = [], []
    for product, count in shares.items():
        try:
            parts.append(_read(product, count, reading, spec))
        except BenexpError as error:
            problems.append(error)
    _warn(problems, bool(parts))
    return np.concatenate(parts)


def _warn(problems: Sequence[BenexpError], goes_on: bool) -> None:
    """Warn of products that give no patches: one that is broken must not stop the tiles beside it."""
    if problems and not goes_on:
        raise problems[0]
    for problem in problems:
        log.warning("no patches to calibrate or check on from one of the products: %s", problem)


def _shares(products: Sequence[Path], count: int) -> dict[Path, int]:
    """The number of patches to read from each of the products that are used."""
    parts = np.array_split(np.arange(count), min(PRODUCTS, len(products), count))
    return {products[index]: len(part) for index, part in zip(_spread(len(products), len(parts)), parts, strict=True)}


def _spread(length: int, count: int) -> list[int]:
    """`count` of the indices below `length`, as far apart as they can be.

    >>> _spread(9, 3)
    [1, 4, 7]
    """
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]


def _read(product: Path, count: int, reading: Reading, spec: ModelSpec) -> npt.NDArray[np.float32]:
    """At most `count` patches [n, bands, p, p] of one product, in model DN; invalid pixels are the bands' means."""
    size = spec.patch_size
    means = np.asarray(spec.means, np.float32)[:, None, None]
    patches: list[npt.NDArray[np.float32]] = []
    with open_input(product, reading, spec.bands, warn=False) as tile:
        for chunk in _windows(tile, size, count):
            pixels, valid = tile.read(chunk.window)
            for row, col in chunk.origins[valid_share(valid, chunk.origins, size) >= VALID]:
                place = np.s_[row : row + size, col : col + size]
                patches.append(np.where(valid[place], pixels[:, *place], means).astype(np.float32))
            if len(patches) >= count:
                break
        if not patches:
            raise BenexpError(
                f"{tile.name}: none of its patches is half valid, to calibrate int8 or to check a file on: "
                f"name another product"
            )
    return np.stack(patches[:count])


def _windows(tile: Tile, size: int, count: int) -> Iterator[Chunk]:
    """Windows of a few patches: as many as hold `count`, evenly over the tile, then all others, should some be invalid.

    Those that lie in one block of the file come first.
    """
    chunks = PatchGrid(tile.shape, size, size).chunks(SIDE * size)
    cheap = [chunk for chunk in chunks if _in_one_block(chunk)] or chunks
    wanted = min(-(-count // SIDE**2), len(cheap))
    first = [cheap[index] for index in _spread(len(cheap), wanted)]
    yield from first
    others = [chunk for chunk in chunks if not any(chunk is taken for taken in first)]
    for index in np.random.default_rng(0).permutation(len(others)):
        yield others[index]


def _in_one_block(chunk: Chunk) -> bool:
    row, col, height, width = chunk.window
    return row % BLOCK + height <= BLOCK and col % BLOCK + width <= BLOCK
