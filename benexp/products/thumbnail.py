"""Small pictures of tiles."""

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.windows
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from benexp.core.errors import BenexpError
from benexp.products.blocks import GDAL_OPTIONS, Raster, open_dataset
from benexp.products.placement import Placed

CUT = (2, 98)
"""Percentiles of the valid pixels that become black and white."""
SAMPLE = 1024
"""Pixels along a side that percentiles are taken of."""


def read_decimated(raster: Raster, placed: Placed, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """The pixels of a raster under a window, at a lower resolution, which JPEG2000 and overviews give cheaply; or 0.

    Raises BenexpError if the file is damaged.
    """
    if not placed:
        return np.zeros(shape, np.uint16)
    rows, cols = placed.rows.band, placed.cols.band
    window = rasterio.windows.Window(cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1)
    try:
        with rasterio.Env(**GDAL_OPTIONS), open_dataset(raster.file) as dataset:
            values: npt.NDArray[np.uint16] = dataset.read(
                1, window=window, out_shape=shape, resampling=Resampling.nearest
            )
    except RasterioError as error:
        raise BenexpError(f"{raster.file.path} is damaged: it cannot be decoded; download it again") from error
    return values


def stretch(
    picture: npt.NDArray[np.uint16], *, apart: bool = False
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Bytes [3, h, w] from the bands' numbers [3, h, w], and the pixels [h, w] that are valid (not 0 in any band).

    The bands are stretched together, which keeps colours natural, or `apart`; invalid pixels are black.
    """
    valid = np.all(picture != 0, axis=0)
    bright = np.zeros(picture.shape, np.uint8)
    if valid.any():
        every = max(1, max(valid.shape) // SAMPLE)
        sample = picture[:, ::every, ::every][:, valid[::every, ::every]]
        low, high = np.percentile(sample if sample.size else picture[:, valid], CUT, axis=1 if apart else None)
        numbers = np.arange(2**16)
        for band, (black, white) in enumerate(np.broadcast_to(np.transpose([low, high]), (len(picture), 2))):
            table = np.clip((numbers - black) / max(white - black, 1) * 255, 0, 255).astype(np.uint8)
            np.multiply(table[picture[band]], valid, out=bright[band])
    return bright, valid
