"""The pixels of a band under the pixels of the tile's grid: the nearest, by the coordinates of pixel centres."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.blocks import Raster

RESOLUTION = 10
"""Metres per pixel of every tile."""
RESOLUTIONS = (10, 20, 60)
"""Metres per pixel that bands come at."""
APART = 20.0
"""Metres: bands whose origins lie this far apart do not belong together."""
FAR = 1e8
"""Metres from the origin of its reference system that nothing on Earth lies at."""
NEGLIGIBLE = 0.01
"""Metres of misplacement that are rounding."""


class Cover(NamedTuple):
    """The run of a window's pixels, along one axis, that a band covers, and the band's pixel under each."""

    window: slice
    band: npt.NDArray[np.int64]


class Placed(NamedTuple):
    """The part of a band under a window."""

    rows: Cover
    cols: Cover

    def __bool__(self) -> bool:
        return bool(len(self.rows.band) and len(self.cols.band))


def cover(start: int, count: int, shift: float, resolution: float, size: int) -> Cover:
    """The band pixels under tile pixels `start` to `start + count`.

    `shift` is how many metres the tile begins after the band, which has `size` pixels of `resolution` metres.

    >>> cover(0, 5, shift=10, resolution=20, size=3).band.tolist()
    [0, 1, 1, 2, 2]
    >>> cover(2, 5, shift=0, resolution=20, size=3)
    Cover(window=slice(0, 4, None), band=array([1, 1, 2, 2]))
    """
    metres = (np.arange(start, start + count) + 0.5) * RESOLUTION + shift
    # Centres keep clear of edges by 5 m unless bands are misplaced; then rounding must not decide either.
    pixels = np.floor(metres / resolution + 1e-6).astype(np.int64)
    first, end = np.searchsorted(pixels, (0, size))
    return Cover(slice(int(first), int(end)), pixels[first:end])


def place(window: Window, raster: Raster, grid: Affine) -> Placed:
    """The part of the raster under a window of the grid."""
    south, east = raster.transform.f - grid.f, grid.c - raster.transform.c
    return Placed(
        cover(window.row, window.height, south, raster.resolution, raster.shape[0]),
        cover(window.col, window.width, east, raster.resolution, raster.shape[1]),
    )


def check_raster(raster: Raster) -> None:
    """Check that a raster is a band on a north-up grid of 10, 20 or 60 m with a CRS. Raises BenexpError if not."""
    path, transform = raster.file.path, raster.transform
    if raster.dtype == "uint8" and raster.file.name != "SCL":
        raise BenexpError(f"{path} is uint8, a picture for display: give the uint16 band of the product")
    if raster.dtype not in ("uint8", "uint16"):
        raise BenexpError(f"{path} is {raster.dtype}: Sentinel-2 bands are uint16, as in the archive's products")
    if raster.crs is None:
        raise BenexpError(f"{path} has no coordinate reference system: the tile cannot be placed on the map")
    if not raster.crs.is_projected or not max(abs(transform.c), abs(transform.f)) < FAR:  # also where it is NaN
        raise BenexpError(
            f"{path} lies nowhere on a map in metres (it begins at {transform.c:g}, {transform.f:g} in "
            f"{raster.crs.to_string():.100}): download it again, or warp it"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise BenexpError(f"{path} is rotated or mirrored: warp it to a north-up grid first")
    sizes = (transform.a, -transform.e)
    if not any(all(abs(size - resolution) < 1e-3 for size in sizes) for resolution in RESOLUTIONS):
        raise BenexpError(f"{path} has pixels of {sizes[0]:g} x {sizes[1]:g}, not of 10, 20 or 60 m")


def check_together(rasters: Sequence[Raster], reference: Raster) -> tuple[str, ...]:
    """Warnings about bands that lie up to a 20 m pixel off the reference.

    Raises BenexpError for bands in other reference systems, further off, or of another extent.
    """
    shifted: dict[tuple[float, float], list[str]] = {}
    for raster in rasters:
        name, other = raster.file.name, reference.file.name
        if raster.crs != reference.crs:
            raise BenexpError(
                f"{raster.file.path} is in {raster.crs.to_string()}, {other} in {reference.crs.to_string()}: "
                "the bands of a product share one reference system"
            )
        east = raster.transform.c - reference.transform.c
        north = raster.transform.f - reference.transform.f
        if max(abs(east), abs(north)) >= APART:
            raise BenexpError(
                f"{raster.file.path}: {name} begins {east:g} m east and {north:g} m north of {other}: "
                "bands of one product lie less than 20 m apart"
            )
        if max(abs(east), abs(north)) > NEGLIGIBLE:
            shifted.setdefault((east, north), []).append(name)
        metres = [[n * r.resolution for n in r.shape] for r in (raster, reference)]
        # Bands of coarser pixels may end up to a pixel earlier or later, and misplaced ones begin elsewhere.
        if any(abs(a - b) >= max(APART, raster.resolution) for a, b in zip(*metres, strict=True)):
            raise BenexpError(
                f"{raster.file.path}: {name} covers {metres[0][1]:g} x {metres[0][0]:g} m, "
                f"{other} {metres[1][1]:g} x {metres[1][0]:g} m: the bands of a product cover the same ground"
            )
    return tuple(
        f"{', '.join(names)} begin {east:g} m east, {north:g} m north of {reference.file.name}: placed by coordinates"
        for (east, north), names in shifted.items()
    )
