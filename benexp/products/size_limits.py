"""What the header of a raster claims, held against what there is: a few bytes can promise any size."""

from benexp.core.errors import BenexpError
from benexp.products.blocks import Raster

TILE = 1 << 27
"""Pixels up to which a claim is believed: a full Sentinel-2 tile at 10 m has 1.2e8."""
PER_BYTE = 1000
"""Pixels that a byte of a larger file may stand for: twenty times what a mosaic that is half nodata packs to."""
PIECE = 1 << 26
"""Pixels that are decoded at once at most; there are threads, and a band each."""
MOST = 1 << 32
"""Pixels that are classified at once at most: each takes a byte of memory all the while."""


def check_claim(raster: Raster, size: int) -> None:
    """Raises BenexpError where a file of `size` bytes claims more pixels than it can hold, or too many in one piece."""
    height, width = raster.shape
    if height * width > max(TILE, PER_BYTE * size):
        raise BenexpError(
            f"{raster.file.path} claims {width} x {height} pixels and has {size} bytes: its header is damaged"
        )
    height, width = raster.unit
    if height * width > PIECE:
        raise BenexpError(
            f"{raster.file.path} can only be read in pieces of {width} x {height} pixels: write it with internal tiles "
            f"(gdal_translate -co TILED=YES)"
        )


def check_area(shape: tuple[int, int]) -> None:
    """Raises BenexpError where more pixels of 10 m are to be classified than memory is made for."""
    height, width = shape
    if height * width > MOST:
        raise BenexpError(
            f"{width} x {height} pixels at 10 m are too many at once: classify parts of them with region.pixels or "
            f"region.bbox"
        )
