"""Decoding of band files by whole internal blocks: in a pool of threads, each block once, with a bounded cache.

A block is decoded alone, with one GDAL thread, because GDAL's own threads print the errors of damaged files and go on.
"""

import threading
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt
import rasterio
import rasterio.windows
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine

from benexp.core.errors import BenexpError
from benexp.products.product import BandFile

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""GDAL's drivers that are tried, whatever the suffix. Others would follow paths and addresses in a file."""
UNIT = 512
"""Pixels a side of the groups in which small blocks of GeoTIFFs are read: a call costs more than decoding them."""
JPEG_TILES = 2048
"""Internal tiles of a JPEG2000 file at most: each takes 10 kB in every thread that has it open. Sentinel-2 has 121."""
OVERLAP = 1200.0
"""Metres by which the windows of a sweep overlap at most: one patch."""
GDAL_OPTIONS = {
    "GDAL_NUM_THREADS": 1,
    # Bytes. Blocks are kept here, decoded; GDAL would keep another 5 % of the machine's memory of them.
    "GDAL_CACHEMAX": 64 * 1024 * 1024,
    # A file stands for itself: no .ovr or .aux.xml beside it, which may name any other file, or an address.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}


@dataclass(frozen=True)
class Raster:
    """One band file as opened: its grid, and how it is read."""

    file: BandFile
    shape: tuple[int, int]
    crs: CRS
    transform: Affine
    dtype: str
    nodata: float | None
    unit: tuple[int, int]
    """Rows and columns that are decoded at once."""

    @property
    def resolution(self) -> float:
        """Metres per pixel."""
        return float(self.transform.a)


class Key(NamedTuple):
    """One unit of one raster: the raster's number, and the unit's place in the grid of units."""

    raster: int
    row: int
    col: int


class Interest(NamedTuple):
    """The current window of a sweep, row by row from the north: its edges in metres from the rasters' origin."""

    north: float
    south: float
    west: float

    def is_past(self, key: Key, raster: Raster) -> bool:
        """True if the sweep will not come back to this unit."""
        height, width = (n * raster.resolution for n in raster.unit)
        top, bottom, right = key.row * height, (key.row + 1) * height, (key.col + 1) * width
        elsewhere = bottom <= self.north or top >= self.south
        return elsewhere or (right <= self.west and bottom <= self.south - OVERLAP)


def open_dataset(file: BandFile) -> Any:
    """The file as a rasterio dataset. Raises BenexpError if it cannot be opened."""
    errors = []
    # The one that the suffix names comes first: its error is the one to tell.
    for driver in sorted(DRIVERS, key=lambda name: (name == "GTiff") != (".tif" in file.file.lower())):
        try:
            with rasterio.Env(**GDAL_OPTIONS):
                return rasterio.open(file.path, driver=driver)
        except RasterioError as error:
            errors.append(" ".join(str(error).split()))
    raise BenexpError(f"{file.path} cannot be opened as JPEG2000 or GeoTIFF ({errors[0]}): download it again")


def inspect(file: BandFile) -> Raster:
    """Open the file and look at its grid. Raises BenexpError if it cannot be opened or has more than one band."""
    with warnings.catch_warnings():
        # A file without a place on the map is an error of its own.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = open_dataset(file)
    with dataset:
        if dataset.count != 1:
            raise BenexpError(f"{file.path} has {dataset.count} bands: one file should hold one band")
        block = dataset.block_shapes[0]
        grouped = dataset.driver == "GTiff"
        unit = tuple(max(1, UNIT // n) * n for n in block) if grouped else block
        if not grouped and (tiles := -(-dataset.height // block[0]) * -(-dataset.width // block[1])) > JPEG_TILES:
            raise BenexpError(
                f"{file.path} is cut into {tiles} internal tiles: make it anew, with tiles of 1024 pixels"
            )
        return Raster(
            file=file,
            shape=dataset.shape,
            crs=dataset.crs,
            transform=dataset.transform,
            dtype=dataset.dtypes[0],
            nodata=dataset.nodata,
            unit=(min(unit[0], dataset.height), min(unit[1], dataset.width)),
        )


class BlockReader:
    """Decodes units of rasters, passes their values through a table, and keeps the last ones.

    `tables` holds, for each raster, what to put in the place of each value (or None). Callers in several threads share
    what is being decoded. Made for sweeps: a cache of little more than one row of units across is enough for each to be
    decoded once.
    """

    def __init__(
        self, rasters: Sequence[Raster], tables: Sequence[npt.NDArray[Any] | None], threads: int, cache_bytes: int
    ) -> None:
        self.rasters = tuple(rasters)
        self.decoded = 0
        """Units decoded so far."""
        self.decode_seconds = 0.0
        """Busy seconds, summed over threads."""
        self._tables = tuple(tables)
        self._cache_bytes = cache_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._local = threading.local()
        self._datasets: list[Any] = []
        self._lock = threading.Lock()
        # Finished or not, in the order of last use.
        self._units: dict[Key, Future[npt.NDArray[Any]]] = {}
        self._bytes = 0
        self._interest = Interest(0, 0, 0)

    def read(self, keys: Iterable[Key], interest: Interest) -> dict[Key, npt.NDArray[Any]]:
        """These units, which lie in the area of interest. Raises BenexpError if one cannot be decoded."""
        with self._lock:
            self._interest = interest
            futures = {key: self._request(key) for key in keys}
        return {key: future.result() for key, future in futures.items()}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for dataset in self._datasets:
            dataset.close()
        self._datasets.clear()
        self._units.clear()

    def _request(self, key: Key) -> "Future[npt.NDArray[Any]]":
        future = self._units.pop(key, None) or self._pool.submit(self._decode, key)
        self._units[key] = future
        return future

    def _decode(self, key: Key) -> npt.NDArray[Any]:
        started = time.perf_counter()
        try:
            unit = self._read_unit(key)
        except BaseException:
            with self._lock:
                del self._units[key]
            raise
        with self._lock:
            self.decoded += 1
            self.decode_seconds += time.perf_counter() - started
            self._bytes += unit.nbytes
            if self._bytes > self._cache_bytes:
                self._forget()
        return unit

    def _read_unit(self, key: Key) -> npt.NDArray[Any]:
        raster = self.rasters[key.raster]
        top, left = key.row * raster.unit[0], key.col * raster.unit[1]
        height, width = min(raster.unit[0], raster.shape[0] - top), min(raster.unit[1], raster.shape[1] - left)
        try:
            with rasterio.Env(**GDAL_OPTIONS):
                window = rasterio.windows.Window(left, top, width, height)
                unit: npt.NDArray[Any] = self._dataset(key.raster).read(1, window=window)
        except RasterioError as error:
            raise BenexpError(
                f"{raster.file.path} is damaged: it cannot be decoded at row {top}, column {left}; download it again"
            ) from error
        table = self._tables[key.raster]
        return unit if table is None else table[unit]

    def _dataset(self, number: int) -> Any:
        """The raster's dataset of this thread: GDAL's datasets must not be shared."""
        if not hasattr(self._local, "datasets"):
            self._local.datasets = {}
        own: dict[int, Any] = self._local.datasets
        if number not in own:
            own[number] = open_dataset(self.rasters[number].file)
            with self._lock:
                self._datasets.append(own[number])
        return own[number]

    def _forget(self) -> None:
        """Drop units until the cache fits: those behind the sweep first, then the least recently used."""
        finished = [key for key, unit in self._units.items() if unit.done()]
        for key in sorted(finished, key=lambda key: not self._interest.is_past(key, self.rasters[key.raster])):
            if self._bytes <= self._cache_bytes:
                break
            self._bytes -= self._units.pop(key).result().nbytes
