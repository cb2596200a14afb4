"""Limits on the sizes that headers of rasters state: a file of a few bytes can state any size."""

from benexp.core.errors import BenexpError
from benexp.products.blocks import Raster

FULL_TILE = 1 << 27
"""Pixels that a file of any size may state: a full Sentinel-2 tile at 10 m has 1.2e8."""
PIXELS_PER_BYTE = 1000
"""Pixels that a byte of a larger file may stand for: twenty times what a mosaic that is half nodata packs to."""
LARGEST_BLOCK = 1 << 26
"""Pixels of one internal block at most: every thread decodes one at a time."""
LARGEST_AREA = 1 << 32
"""Pixels of a classified area at most: each takes a byte of memory during the whole run."""


def check_size(raster: Raster, size: int) -> None:
    """Check the shape that a file of `size` bytes states, and that of its blocks. Raises BenexpError if too large."""
    height, width = raster.shape
    if height * width > max(FULL_TILE, PIXELS_PER_BYTE * size):
        raise BenexpError(
            f"{raster.file.path} states {width} x {height} pixels and has {size} bytes: its header is damaged"
        )
    height, width = raster.unit
    if height * width > LARGEST_BLOCK:
        raise BenexpError(
            f"{raster.file.path} can only be read in pieces of {width} x {height} pixels: write it with internal tiles "
            f"(gdal_translate -co TILED=YES)"
        )


def check_area(shape: tuple[int, int]) -> None:
    """Check the size of the area to classify, in pixels of 10 m. Raises BenexpError if it is too large at once."""
    height, width = shape
    if height * width > LARGEST_AREA:
        raise BenexpError(
            f"{width} x {height} pixels at 10 m are too many at once: classify parts of them with region.pixels or "
            f"region.bbox"
        )
