"""Writing layers as Cloud Optimized GeoTIFFs that are either whole or not there."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from benexp.core.disk_limits import limit_reached, reason
from benexp.core.errors import BenexpError
from benexp.core.files import PARTIAL, outside_staging
from benexp.core.window import Window
from benexp.mapping import libtiff
from benexp.mapping.layers import Format
from benexp.mapping.styles import categories_of, sidecars

BLOCK = 512
"""Pixels along the side of an internal tile and of a rendered block: whole tiles are written fastest. Never the chunk
size, so that the order of additions, and with it the last bit of every pixel, is the same for every chunk size."""

Kind = TypeVar("Kind", bound=Format)

libtiff.silence()

# In bytes. Without it GDAL takes 5 % of the machine's memory.
CACHE = 256 * 2**20


class RasterWriter(Generic[Kind]):
    """Writes one layer's blocks; `finish` makes a complete file of them, `publish` gives it its name.

    `path` ends in `.tif`. `shape` is (height, width), `tags` become tags of the dataset, all but dates: the same input
    gives the same bytes. Leaving the `with` block removes whatever was not published. Memory does not grow with the
    shape.

    All methods raise BenexpError where the disk is full or the path cannot be written.
    """

    def __init__(
        self,
        path: Path,
        layer: Kind,
        *,
        shape: tuple[int, int],
        crs: CRS,
        transform: Affine,
        tags: Mapping[str, str],
        class_names: Sequence[str],
    ) -> None:
        self.path = path
        self.layer = layer
        self.shape = shape
        self._class_names = tuple(class_names)
        self._profile = {"height": shape[0], "width": shape[1], "crs": crs, "transform": transform}
        self._tags = {"LAYER": layer.name, "DESCRIPTION": layer.description, **tags}
        self._statistics = [Statistics() for _ in range(layer.bands)]
        self._written: list[tuple[Window, int]] = []
        self._blocks: Any = None
        self._blocks_path = path.with_name(f"{path.stem}{PARTIAL}.blocks.tif")
        self._cog_path = self._partial(path)
        self._sidecars: list[Path] = []

    def __enter__(self) -> Self:
        layer = self.layer
        with self._environment():
            self._blocks = rasterio.open(
                self._blocks_path,
                "w",
                driver="GTiff",
                count=layer.bands,
                dtype=layer.dtype,
                nodata=layer.nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                # Overviews are made band by band: out of pixel-interleaved tiles each band would unpack all the others.
                interleave="band",
                # A third of the plain file's size for 1 s of a core per full tile of float32.
                compress="ZSTD",
                zstd_level=1,
                predictor=_predictor(layer),
                num_threads="ALL_CPUS",
                bigtiff="IF_SAFER",
                **self._profile,
            )
            self._blocks.update_tags(**self._tags)
            for band, name in enumerate(layer.band_names or (layer.description,), start=1):
                self._blocks.set_band_description(band, name)
            if layer.scale != 1:
                self._blocks.scales = (layer.scale,) * layer.bands
            if categories := categories_of(layer, self._class_names):
                colours = {i: (*bytes.fromhex(colour[1:]), 255) for i, (_, colour) in enumerate(categories)}
                self._blocks.write_colormap(1, colours)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._blocks is not None:
                with self._environment():
                    self._blocks.close()
        finally:
            # GDAL leaves files of its own names beside a copy that failed.
            for leftover in self._unfinished():
                leftover.unlink()

    @property
    def files(self) -> list[Path]:
        """The files that `publish` leaves: the sidecars and the GeoTIFF, in this order."""
        return [*self._sidecars, self.path]

    def write(self, values: npt.NDArray[Any], window: Window) -> None:
        """Write a block: `values` [h, w] or [bands, h, w] in the layer's dtype. Blocks must not overlap."""
        block = np.ascontiguousarray(values[None] if values.ndim == 2 else values)
        if block.dtype != self.layer.dtype or block.shape != (self.layer.bands, *window.shape):
            raise ValueError(f"{self.path.name}: a block of {block.dtype} {block.shape} for {window}")
        for statistics, band in zip(self._statistics, block, strict=True):
            statistics.add(band, self.layer.nodata)
        self._written.append((window, zlib.crc32(block.data)))
        with self._environment():
            self._blocks.write(block, window=_rasterio_window(window))

    def finish(self) -> None:
        """Make the complete GeoTIFF and its sidecars under partial names."""
        height, width = self.shape
        if sum(window.height * window.width for window, _ in self._written) != height * width:
            raise RuntimeError(f"{self.path.name}: its blocks do not cover {height} x {width}")
        with self._environment():
            for band, statistics in enumerate(self._statistics, start=1):
                self._blocks.update_tags(band, **statistics.tags())
            self._blocks.close()
            rasterio.shutil.copy(
                self._blocks_path,
                self._cog_path,
                driver="COG",
                blocksize=BLOCK,
                compress="ZSTD",
                level=1,
                predictor="YES",
                overview_resampling=self.layer.resampling,
                num_threads="ALL_CPUS",
                bigtiff="IF_SAFER",
            )
            self._verify()
            self._blocks_path.unlink()
            for path, text in sidecars(self.path, self.layer, self._class_names).items():
                self._partial(path).write_bytes(text)
                self._sidecars.append(path)

    def publish(self) -> None:
        """Give the finished files their names, the GeoTIFF last: where it is, the others are too."""
        with self._environment():
            for path in (*self._sidecars, self.path):
                self._partial(path).replace(path)

    def _unfinished(self) -> list[Path]:
        return list(self.path.parent.glob(f"{escape(self.path.stem + PARTIAL)}*"))

    def _partial(self, path: Path) -> Path:
        stem = self.path.stem
        return path.with_name(f"{stem}{PARTIAL}{path.name[len(stem) :]}")

    def _verify(self) -> None:
        """Read the copy back: GDAL does not tell of a disk that fills up in a thread of its own or while closing."""
        with rasterio.open(self._cog_path) as cog:
            levels = len(cog.overviews(1))
            whole = levels == _overview_count(self.shape)
            for window, checksum in self._written:
                whole = whole and zlib.crc32(cog.read(window=_rasterio_window(window)).data) == checksum
        if not whole:
            raise OSError("what was written does not read back")
        for level in range(levels):
            with rasterio.open(self._cog_path, overview_level=level) as overview:
                for _, window in overview.block_windows(1):
                    overview.read(window=window)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        try:
            with rasterio.Env(GDAL_CACHEMAX=CACHE):
                yield
        # A SystemError is rasterio's word for a failure that GDAL gave no reason for.
        except (RasterioError, CPLE_BaseError, OSError, SystemError) as error:
            limit = limit_reached(self._unfinished())
            why = reason(limit or (error if isinstance(error, OSError) else OSError(error)))
            raise BenexpError(f"cannot write {outside_staging(self.path)}: {why}") from error


class Statistics:
    """Minimum, maximum, mean and standard deviation of a band, gathered block by block."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.minimum = np.inf
        self.maximum = -np.inf
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: npt.NDArray[Any], nodata: float) -> None:
        """Take in a block; pixels that are nodata count only for the share of valid ones."""
        self.total += values.size
        valid = ~np.isnan(values) if np.isnan(nodata) else values != nodata
        data = values.ravel() if valid.all() else values[valid]
        if not data.size:
            return
        # Chan's merge of two means and sums of squared deviations, which loses no digits to large values.
        mean = float(data.mean(dtype=np.float64))
        deviations = np.subtract(data, mean, dtype=np.float64)
        count = self.count + data.size
        shift = mean - self.mean
        self._squares += float(deviations @ deviations) + shift * shift * self.count * data.size / count
        self.mean += shift * data.size / count
        self.count = count
        self.minimum = min(self.minimum, float(data.min()))
        self.maximum = max(self.maximum, float(data.max()))

    @property
    def deviation(self) -> float:
        """The standard deviation of all pixels (not an estimate from a sample)."""
        return float(np.sqrt(self._squares / self.count))

    def tags(self) -> dict[str, str]:
        """GDAL's tags; none where there is no valid pixel."""
        if not self.count:
            return {}
        return {
            "STATISTICS_MINIMUM": f"{self.minimum:.9g}",
            "STATISTICS_MAXIMUM": f"{self.maximum:.9g}",
            "STATISTICS_MEAN": f"{self.mean:.9g}",
            "STATISTICS_STDDEV": f"{self.deviation:.9g}",
            "STATISTICS_VALID_PERCENT": f"{100 * self.count / self.total:.4g}",
        }


def _predictor(layer: Format) -> int:
    return 3 if layer.dtype.startswith("float") else 2


def _rasterio_window(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)


def _overview_count(shape: tuple[int, int]) -> int:
    """The number of times that GDAL's COG driver halves a raster, rounding down, until it fits one block."""
    count = 0
    while max(shape) >> count > BLOCK:
        count += 1
    return count
