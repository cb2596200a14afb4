"""A part of a tile, given by pixels or by a bounding box, as a window."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.size_limits import check_area
from benexp.products.tile import Tile

SNAP = 1e-6
"""Pixels by which a box may pass a pixel's edge without taking in the pixel: rounding in projections."""


@dataclass(frozen=True)
class TileRegion:
    """The part of a tile that is mapped: a window on the tile's grid, which may be the whole of it."""

    tile: Tile
    window: Window
    is_whole: bool
    """True where no region was asked for."""
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.window.shape

    @property
    def transform(self) -> Affine:
        """From (column, row) in the window to coordinates of the tile's CRS."""
        return self.tile.transform @ Affine.translation(self.window.col, self.window.row)

    @property
    def name(self) -> str:
        """`region-R-C-H-W`, by its first row and column, height and width."""
        return f"region-{'-'.join(map(str, self.window))}"


def region_of(tile: Tile, region: Mapping[str, Any]) -> TileRegion:
    """The part of a tile that config key `region` asks for. Raises BenexpError where it is outside, or too large."""
    window = resolve_region(region, tile.shape, tile.crs, tile.transform)
    check_area(window.shape)
    asked = region.get("pixels")
    clipped = asked and tuple(asked) != tuple(window)
    warnings = (f"region.pixels={asked} is clipped to {list(window)}",) if clipped else ()
    return TileRegion(tile, window, not (asked or region.get("bbox")), warnings)


def resolve_region(region: Mapping[str, Any] | None, shape: tuple[int, int], crs: CRS, transform: Affine) -> Window:
    """The window of a tile that a region stands for, clipped to the tile; the whole tile where it is empty.

    `region` has `pixels` ([row, col, height, width]) or `bbox` ([west, south, east, north], in the tile's CRS, or in
    `crs` where that is given, snapped outward to whole pixels). Raises BenexpError if it lies outside the tile.
    """
    given = {key: value for key, value in (region or {}).items() if value is not None}
    if "pixels" in given and "bbox" in given:
        raise BenexpError("region.pixels and region.bbox are both given: leave one of them")
    hint = ""
    if "pixels" in given:
        row, col, height, width = (round(number) for number in _four(given, "pixels", "row, col, height, width"))
        top, left, bottom, right = row, col, row + height, col + width
        key = "pixels"
    elif "bbox" in given:
        box = _four(given, "bbox", "west, south, east, north")
        hint = _degrees_hint(box, given.get("crs"), shape, crs, transform)
        try:
            top, left, bottom, right = _pixels_of_box(box, given.get("crs"), crs, transform)
        except BenexpError as error:
            raise BenexpError(f"{error}{hint}") from error
        key = "bbox"
    else:
        return Window(0, 0, *shape)
    clipped_top, clipped_left = max(0, top), max(0, left)
    window = Window(clipped_top, clipped_left, min(shape[0], bottom) - clipped_top, min(shape[1], right) - clipped_left)
    if window.height <= 0 or window.width <= 0:
        west, north = transform.c, transform.f
        east, south = west + shape[1] * transform.a, north + shape[0] * transform.e
        raise BenexpError(
            f"region.{key}={list(given[key])} lies outside the tile of {shape[0]} x {shape[1]} pixels, "
            f"west {west:.0f}, south {south:.0f}, east {east:.0f}, north {north:.0f} in {crs.to_string()}{hint}"
        )
    return window


def _pixels_of_box(box: Sequence[float], name: str | None, crs: CRS, transform: Affine) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a box in the reference system `name` (None: the tile's), snapped outward."""
    west, south, east, north = _project(name, crs, box) if name else box
    top, left = (math.floor(edge + SNAP) for edge in _pixel(transform, west, north))
    bottom, right = (math.ceil(edge - SNAP) for edge in _pixel(transform, east, south))
    return top, left, bottom, right


def _degrees_hint(box: Sequence[float], name: str | None, shape: tuple[int, int], crs: CRS, transform: Affine) -> str:
    """A hint where the box meets the tile as degrees, or with latitude and longitude swapped; else empty."""
    if max(map(abs, box)) > 180:
        return ""
    west, south, east, north = box
    for sides, swapped in ((box, False), ((south, west, north, east), True)):
        with contextlib.suppress(BenexpError):
            top, left, bottom, right = _pixels_of_box(sides, name or "EPSG:4326", crs, transform)
            if top < shape[0] and left < shape[1] and bottom > 0 and right > 0:
                order = f"longitude comes first, region.bbox=[{','.join(f'{n:g}' for n in sides)}]" if swapped else ""
                system = "" if name else "it is in degrees, which need region.crs=EPSG:4326"
                return "; " + ", and ".join(filter(None, (system, order)))
    return "" if name else "; if it is in degrees, it needs region.crs=EPSG:4326"


def _pixel(transform: Affine, x: float, y: float) -> tuple[float, float]:
    """Row and column of a point on a north-up grid."""
    return (y - transform.f) / transform.e, (x - transform.c) / transform.a


def _four(region: Mapping[str, Any], key: str, order: str) -> list[float]:
    value = region[key]
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 4 or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise BenexpError(f"region.{key}={value}: give four numbers, [{order}]")
    return [float(number) for number in numbers]


def _project(name: str, target: CRS, box: Sequence[float]) -> Sequence[float]:
    try:
        bounds = transform_bounds(CRS.from_user_input(name), target, *box)
    except (RasterioError, ValueError) as error:
        raise BenexpError(
            f"region.bbox={list(box)} in region.crs={name} cannot be placed on the tile ({error})"
        ) from error
    if not all(map(math.isfinite, bounds)):
        raise BenexpError(f"region.bbox={list(box)} in region.crs={name} lies nowhere near the tile")
    return tuple(bounds)
