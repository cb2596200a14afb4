"""A raster of the classes that are true, seen on the grid of a map: nearest pixel, block by block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from benexp.core.classes import CLASSES, NODATA
from benexp.core.errors import BenexpError

Codes = Literal["ids", "clc"]

_BLOCK = 2048
"""Pixels a side of what is held at once."""
_CACHE = 64 * 2**20
"""Bytes of GDAL's cache, which would be 5 % of the machine's memory."""
_OTHER = 1000
"""Stands for every value that is negative or has more than three digits: neither kind of code has one."""
_NO_VALUE = _OTHER + 1

CLC = frozenset(
    code
    for codes in (
        (111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142),
        (211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244),
        (311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335),
        (411, 412, 421, 422, 423, 511, 512, 521, 522, 523),
    )
    for code in codes
)
"""The 44 codes of CORINE Land Cover, level 3."""
CLC_NO_CLASS = frozenset((0, 255, 990, 995, 999))
"""The values of rasters of CLC codes that stand for no class."""
WORDS = {"ids": f"class ids 0 to {len(CLASSES) - 1}", "clc": "CLC codes"}


@dataclass(frozen=True)
class MapGrid:
    """The grid of a map: its shape, CRS and transform."""

    shape: tuple[int, int]
    crs: CRS
    transform: Affine


@dataclass(frozen=True)
class Confusion:
    """A pixel-by-pixel comparison of a map with a reference."""

    matrix: npt.NDArray[np.int64]
    """[classes, classes]: pixels by the reference's class and the map's."""
    map_nodata: int
    reference_nodata: int
    """Pixels with a class in the map for which the reference has no value, or which it does not cover."""
    unlabelled: dict[str, int]
    """Pixels with a class in the map by the reference's values that stand for none of the 19, and `other`."""


class Reference:
    """A reference on the grid of a map; use it in a with statement.

    Raises BenexpError where it is no raster of whole numbers in the map's reference system.
    """

    def __init__(self, path: Path, grid: MapGrid) -> None:
        self.path = path
        self.grid = grid
        with _reading(path):
            self._raster = rasterio.open(path)
        raster = self._raster
        try:
            if raster.count != 1 or np.dtype(raster.dtypes[0]).kind not in "iu":
                raise BenexpError(
                    f"{path} has {raster.count} bands of {raster.dtypes[0]}: a reference has one, of whole numbers: "
                    f"class ids or CLC codes"
                )
            if raster.crs != grid.crs:
                raise BenexpError(
                    f"{path} is in {raster.crs.to_string() if raster.crs else 'no reference system'}, the map in "
                    f"{grid.crs.to_string()}: warp it first: gdalwarp -r near -t_srs {grid.crs.to_string()} "
                    f"{path.name} warped.tif"
                )
            # The added mask is what tells pixels outside from those of value 0 where no nodata is declared.
            height, width = grid.shape
            self._aligned = WarpedVRT(
                raster,
                crs=grid.crs,
                transform=grid.transform,
                height=height,
                width=width,
                resampling=Resampling.nearest,
                add_alpha=True,
            )
        except BaseException:
            raster.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._aligned.close()
        self._raster.close()

    def codes(self, asked: str) -> Codes:
        """The kind of the values, class ids or CLC codes: as `asked`, or for `auto` the kind that fits all of them.

        Raises BenexpError if they are of neither kind, or if no pixel on the map's grid has a class.
        """
        counts = np.zeros(_NO_VALUE + 1, np.int64)
        for window in _windows(self.grid.shape):
            counts += np.bincount(self._read(window).ravel(), minlength=len(counts))
        values = set(np.flatnonzero(counts[:_NO_VALUE]).tolist())
        if not values:
            raise BenexpError(f"{self.path} has no value on the map's grid: does it show the same place?")
        found: list[Codes] = []
        if asked in ("auto", "ids") and (asked == "ids" or values <= {*range(len(CLASSES)), NODATA}):
            found.append("ids")
        if asked in ("auto", "clc") and (asked == "clc" or values <= CLC | CLC_NO_CLASS):
            found.append("clc")
        shown = ", ".join(_name(value) for value in sorted(values)[:8]) + (", ..." if len(values) > 8 else "")
        if not found:
            raise BenexpError(
                f"{self.path} holds {shown}, which are neither {WORDS['ids']} nor {WORDS['clc']}: translate them, or "
                f"say evaluate.reference_codes=ids or clc, which leaves out what has no class"
            )
        # Only 0 and 255 can be both: nothing in CLC, a class in ids.
        codes = found[0]
        if not counts[:_NO_VALUE][class_table(codes)[:_NO_VALUE] != NODATA].any():
            raise BenexpError(f"{self.path} holds {shown}: none of them has a class among {WORDS[codes]}")
        return codes

    def compare(self, path: Path, codes: Codes) -> Confusion:
        """Count the pixels of the class map at `path`, which must lie on this grid, against this reference.

        Raises BenexpError where the map holds anything but class ids, or no pixel has a class in both.
        """
        classes = len(CLASSES)
        counts = np.zeros((_NO_VALUE + 1, classes + 1), np.int64)
        with _reading(path), rasterio.open(path) as source:
            nothing = NODATA if source.nodata is None else int(source.nodata)
            for window in _windows(self.grid.shape):
                mapped = source.read(1, window=window)
                strange = (mapped >= classes) & (mapped != nothing)
                if strange.any():
                    raise BenexpError(f"{path} holds {mapped[strange][0]}: a class map has {WORDS['ids']} or nodata")
                pairs = self._read(window) * (classes + 1) + np.minimum(mapped, classes)
                counts += np.bincount(pairs.ravel(), minlength=counts.size).reshape(counts.shape)
        table = class_table(codes)
        matrix = np.zeros((classes, classes), np.int64)
        labelled = table != NODATA
        np.add.at(matrix, table[labelled], counts[labelled, :classes])
        here = counts[:, :classes].sum(axis=1)
        if not matrix.any():
            raise BenexpError(f"no pixel has a class in both {path} and {self.path}: do they show the same place?")
        return Confusion(
            matrix,
            map_nodata=int(counts[:, classes].sum()),
            reference_nodata=int(here[_NO_VALUE]),
            unlabelled={
                _name(int(value)): int(here[value]) for value in np.flatnonzero(~labelled[:_NO_VALUE] & (here[:-1] > 0))
            },
        )

    def _read(self, window: RasterioWindow) -> npt.NDArray[np.int64]:
        """The values of a window, with _OTHER and _NO_VALUE for what has no code."""
        with _reading(self.path):
            values: npt.NDArray[np.int64] = self._aligned.read(1, window=window).astype(np.int64)
            there = self._aligned.read_masks(1, window=window) > 0
        values[(values < 0) | (values > _OTHER)] = _OTHER
        values[~there] = _NO_VALUE
        return values


def class_table(codes: Codes) -> npt.NDArray[np.uint8]:
    """The class of every value of a reference, NODATA where it has none."""
    table = np.full(_NO_VALUE + 1, NODATA, np.uint8)
    for land_cover in CLASSES:
        table[[land_cover.id] if codes == "ids" else list(land_cover.clc)] = land_cover.id
    return table


def map_grid(path: Path) -> tuple[MapGrid, dict[str, str]]:
    """The grid of the class map at `path`, and its tags. Raises BenexpError if the file is not a class map."""
    with _reading(path), rasterio.open(path) as raster:
        if raster.count != 1 or raster.dtypes[0] != "uint8":
            raise BenexpError(
                f"{path} has {raster.count} bands of {raster.dtypes[0]}: give a class map, <tile>_class.tif"
            )
        if raster.crs is None:
            raise BenexpError(f"{path} has no coordinate reference system: give a class map, <tile>_class.tif")
        return MapGrid(raster.shape, raster.crs, raster.transform), dict(raster.tags())


def _windows(shape: Sequence[int]) -> Iterator[RasterioWindow]:
    height, width = shape
    for row in range(0, height, _BLOCK):
        for col in range(0, width, _BLOCK):
            yield RasterioWindow(col, row, min(_BLOCK, width - col), min(_BLOCK, height - row))


def _name(value: int) -> str:
    return "other" if value == _OTHER else str(value)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE):
            yield
    except (RasterioError, OSError) as error:
        raise BenexpError(f"{path}: cannot be read as a raster: {' '.join(str(error).split())}") from error
