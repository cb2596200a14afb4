"""A product opened as one raster grid at 10 m, read in windows."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine

from benexp.core import cores
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.blocks import BlockReader, Interest, Key, Raster, inspect
from benexp.products.finding import open_product
from benexp.products.names import NATIVE
from benexp.products.offsets import OffsetDecision, decide_offsets
from benexp.products.placement import RESOLUTION, Placed, check_raster, check_together, place
from benexp.products.product import Product
from benexp.products.radiometry import dn_table, keep_table
from benexp.products.size_limits import check_size
from benexp.products.thumbnail import read_decimated

CHUNK_ROWS = 2048
"""Rows of the chunks that the default cache is made for."""
CACHE_LIMIT = 400_000_000
"""Bytes of the default cache at most."""


def open_tile(
    product: Path | str | Product,
    bands: Sequence[str],
    *,
    offset: int | str = "auto",
    offset_override: bool = False,
    keep_saturated: bool = False,
    scl_mask: Sequence[int] = (),
    threads: int | None = None,
    cache_bytes: int | None = None,
) -> "Tile":
    """Open these bands of a product, in this order, as one tile; use it in a with statement.

    `offset` is `auto`, `none` or a number, and `offset_override` lets it contradict the product (see decide_offsets);
    `keep_saturated` leaves saturated pixels valid; `scl_mask` are the classes of the scene classification whose pixels
    are invalid; `threads` decode (default: the cores there are);
    `cache_bytes` are kept of decoded blocks (default: enough for a row of chunks).
    Raises BenexpError if a band is missing or coarser than it should be, bands do not fit each other, or the offset is
    not known.
    """
    product = product if isinstance(product, Product) else open_product(product)
    files = product.band_files(bands)
    if scl_mask and not product.scl:
        raise BenexpError(f"{product.path} has no scene classification (SCL), which mask.scl={list(scl_mask)} needs")
    scl = inspect(product.scl) if scl_mask and product.scl else None
    rasters = [inspect(file) for file in files]
    decision = decide_offsets(product, offset, bands, override=offset_override)
    threads = threads or cores.available()
    return Tile(product, rasters, decision, keep_saturated, scl, scl_mask, threads, cache_bytes)


class Tile:
    """Reads model DN on a grid of 10 m. `open_tile` makes it.

    Attributes: `name`, `level`, `bands`; `shape` (rows, columns), `crs` and `transform`; `offsets`, added to each
    band's numbers, and `offset_decision`, the evidence for them;
    `warnings` that the user should see; `tags`, facts about the input that every map made from it should state;
    `input_bytes`, the size of the files read; `stamp`, a hash that only these very files have, seen from any machine,
    as long as nobody writes to them; `cache_bytes`, how much is kept of what was decoded.
    """

    def __init__(
        self,
        product: Product,
        rasters: Sequence[Raster],
        decision: OffsetDecision,
        keep_saturated: bool,
        scl: Raster | None,
        scl_mask: Sequence[int],
        threads: int,
        cache_bytes: int | None,
    ) -> None:
        # The scene classification is one more raster whose zeros are invalid pixels.
        self._rasters = [*rasters, *([scl] if scl else [])]
        for raster in self._rasters:
            check_raster(raster)
            check_size(raster, product.container.size(raster.file.file))
        reference = min(rasters, key=lambda raster: (raster.resolution, raster.file.name))
        factor = round(reference.resolution / RESOLUTION)
        _check_resolutions(product, rasters)
        self.shape = (reference.shape[0] * factor, reference.shape[1] * factor)
        self.transform = Affine(RESOLUTION, 0, reference.transform.c, 0, -RESOLUTION, reference.transform.f)
        self._tables = [
            dn_table(
                decision.offsets[raster.file.name],
                product.quantification,
                raster.nodata,
                keep_saturated=keep_saturated,
            )
            for raster in rasters
        ]
        self.product = product
        self.name = product.name
        self.level = product.level
        self.bands = tuple(raster.file.name for raster in rasters)
        self.offsets = dict(decision.offsets)
        self.offset_decision = decision
        self.crs = reference.crs
        self.warnings = (
            *product.warnings,
            *([decision.overridden] if decision.overridden else []),
            *_sidecar_warnings(product, self._rasters),
            *check_together(self._rasters, reference),
        )
        self.tags = _tags(product, decision, keep_saturated)
        self.input_bytes = sum(product.container.size(raster.file.file) for raster in self._rasters)
        self.cache_bytes = default_cache(self._rasters) if cache_bytes is None else cache_bytes
        self._clocks = StageClocks()
        self.stamp = self._stamp()
        self._reader = BlockReader(
            self._rasters,
            [*self._tables, *([keep_table(scl_mask)] if scl else [])],
            threads,
            self.cache_bytes,
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash that tells the content of the product's files from any other, wherever they lie: all are read."""
        container = self.product.container
        names = self._files()
        digest = hashlib.sha256()
        with ThreadPoolExecutor(cores.available(), "fingerprint") as pool:
            for name, content in zip(names, pool.map(container.digest, names), strict=True):
                digest.update(name.rpartition("/")[2].encode() + b"\n" + content)
        self._check_unchanged()
        return digest.hexdigest()

    def _files(self) -> list[str]:
        """The files that the tile is read from: bands, scene classification, and the metadata with the offsets."""
        metadata = self.product.metadata
        return [*(raster.file.file for raster in self._rasters), *([metadata.file] if metadata else [])]

    def _stamp(self) -> str:
        return hashlib.sha256(b"\n".join(map(self.product.container.stamp, self._files()))).hexdigest()

    def _check_unchanged(self) -> None:
        """Raise BenexpError where somebody wrote to the product, or put another one there, since it was opened."""
        if self._stamp() != self.stamp:
            raise BenexpError(
                f"{self.product.path} was changed while it was read: run it again when nobody writes to it any more"
            )

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
        """Model DN [bands, h, w] and the valid pixels [h, w] of a window, which must lie inside the tile.

        Invalid pixels are nodata or saturated in a band, outside one, or masked by the scene classification; a band is
        0 where it has no data itself, and only there. Any thread may call this. Raises BenexpError for damaged files.
        """
        if min(window) < 0 or window.row + window.height > self.shape[0] or window.col + window.width > self.shape[1]:
            raise ValueError(f"{window} is not inside a tile of {self.shape}")
        places = [place(window, raster, self.transform) for raster in self._rasters]
        keys = [list(_keys(number, *pair)) for number, pair in enumerate(zip(self._rasters, places, strict=True))]
        interest = Interest(*(RESOLUTION * n for n in (window.row, window.row + window.height, window.col)))
        units = self._reader.read([key for group in keys for key in group], interest)
        with self._clocks.stage("assemble"):
            chunk = np.zeros((len(self.bands), *window.shape), np.uint16)
            valid = np.ones(window.shape, bool)
            for number, (raster, placed) in enumerate(zip(self._rasters, places, strict=True)):
                values = chunk[number] if number < len(self.bands) else np.zeros(window.shape, np.uint16)
                for key in keys[number]:
                    _paste(units[key], key, raster, placed, values)
                valid &= values != 0
        self._check_unchanged()
        return chunk, valid

    def reduced(self, bands: Sequence[str], max_size: int, window: Window) -> npt.NDArray[np.uint16]:
        """The numbers [bands, h, w] of any bands of the product in a window, at most `max_size` pixels a side.

        They have the size of every n-th row and column of the window, for the smallest n that will do; 0 is nodata.

        Raises BenexpError if the product lacks a band, or one is damaged.
        """
        step = -(-max(window.shape) // max_size)
        shape = (-(-window.height // step), -(-window.width // step))
        rasters = [inspect(file) for file in self.product.band_files(bands)]

        def band(raster: Raster) -> npt.NDArray[np.uint16]:
            return read_decimated(raster, place(window, raster, self.transform), shape)

        with ThreadPoolExecutor(len(rasters)) as pool:
            made = np.stack(list(pool.map(band, rasters)))
        self._check_unchanged()
        return made

    @property
    def decode_seconds(self) -> float:
        """Seconds that threads were busy decoding, summed over them."""
        return self._reader.decode_seconds

    @property
    def assemble_seconds(self) -> float:
        """Seconds that threads were busy putting windows together from blocks, summed over them."""
        return self._clocks.seconds["assemble"]

    @property
    def decoded_blocks(self) -> int:
        """The number of blocks, or groups of small ones, decoded so far; a block decoded twice counts twice."""
        return self._reader.decoded

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_resolutions(product: Product, rasters: Sequence[Raster]) -> None:
    """Raise BenexpError where a band is coarser than in the archive's products: its map would be, too."""
    coarse = [raster for raster in rasters if raster.resolution > NATIVE[raster.file.name]]
    if coarse:
        names = ", ".join(raster.file.name for raster in coarse)
        first = coarse[0]
        raise BenexpError(
            f"{product.path} has {names} in coarser pixels than Sentinel-2 has ({first.file.name}: "
            f"{first.resolution:g} m, not {NATIVE[first.file.name]} m): add the finer files"
        )


def _sidecar_warnings(product: Product, rasters: Sequence[Raster]) -> list[str]:
    """A warning about files in which GDAL keeps nodata values, scales and statistics, which benexp does not read."""
    names = set(product.container.names)
    found = [name for raster in rasters if (name := f"{raster.file.file}.aux.xml") in names]
    return [f"not read: {', '.join(found)} (nodata values and scales in such files are not applied)"] if found else []


def _tags(product: Product, decision: OffsetDecision, keep_saturated: bool) -> dict[str, str]:
    return {
        **({"INPUT_LEVEL": "L1C, top of atmosphere: the models were trained on L2A"} if product.level == "L1C" else {}),
        **({"OFFSET_OVERRIDE": decision.overridden} if decision.overridden else {}),
        **({"SATURATED": "kept as valid pixels"} if keep_saturated else {}),
    }


def default_cache(rasters: Sequence[Raster]) -> int:
    """Bytes of all the units that a row of chunks meets at worst, within a limit."""
    total = 0
    for raster in rasters:
        rows = int(CHUNK_ROWS * RESOLUTION / raster.resolution)
        height = raster.unit[0]
        met = (rows + 2 * (height - 1)) // height * height
        total += min(met, raster.shape[0]) * raster.shape[1] * 2
    return min(total, CACHE_LIMIT)


def _keys(number: int, raster: Raster, placed: Placed) -> Iterator[Key]:
    """The units of a raster that hold what it has under a window."""
    if not placed:
        return
    height, width = raster.unit
    for row in range(placed.rows.band[0] // height, placed.rows.band[-1] // height + 1):
        for col in range(placed.cols.band[0] // width, placed.cols.band[-1] // width + 1):
            yield Key(number, int(row), int(col))


def _paste(
    unit: npt.NDArray[np.uint16], key: Key, raster: Raster, placed: Placed, target: npt.NDArray[np.uint16]
) -> None:
    """Copy the pixels of one unit that lie in the window to their place in `target`."""
    top, left = key.row * raster.unit[0], key.col * raster.unit[1]
    first, last = np.searchsorted(placed.rows.band, (top, top + unit.shape[0]))
    begin, end = np.searchsorted(placed.cols.band, (left, left + unit.shape[1]))
    rows, cols = placed.rows.band[first:last] - top, placed.cols.band[begin:end] - left
    part = target[placed.rows.window, placed.cols.window][first:last, begin:end]
    if raster.resolution == RESOLUTION:
        part[:] = unit[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    else:
        # Columns first: the rows are then copied whole.
        part[:] = unit[rows[0] : rows[-1] + 1].take(cols, axis=1).take(rows - rows[0], axis=0)
