"""Longitude and latitude anywhere on a tile, as two polynomials: small enough for a page, good to centimetres."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as project

DEGREE = 5
"""Highest sum of powers: on a tile of 110 km centimetres are left, up to 82 degrees north."""
_NODES = 25


class LonLat(NamedTuple):
    """Coefficients in degrees, of u^i v^j with i + j up to DEGREE: (0, 0), (0, 1), ... (1, 0), ...

    u is -1 in the west of the tile and 1 in the east, v -1 in the south and 1 in the north.
    """

    longitude: list[float]
    latitude: list[float]


def fit(crs: CRS, transform: Affine, shape: tuple[int, int]) -> LonLat:
    """The polynomials for a tile of `shape` (rows, columns). Longitudes may pass 180 where the tile does."""
    line = np.cos(np.linspace(0, np.pi, _NODES))  # denser at the edges, where polynomials swing
    u, v = (axis.ravel() for axis in np.meshgrid(line, line))
    height, width = shape
    x = transform.c + transform.a * width * (u + 1) / 2
    y = transform.f + transform.e * height * (1 - v) / 2
    longitude, latitude = map(np.array, project(crs, CRS.from_epsg(4326), x, y))
    # Across the antimeridian on the side of the tile's first node.
    longitude = longitude[0] + (longitude - longitude[0] + 180) % 360 - 180
    terms = powers(u, v)
    solved = [np.linalg.lstsq(terms, degrees, rcond=None)[0].tolist() for degrees in (longitude, latitude)]
    return LonLat(*solved)


def powers(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The terms [n, terms] of the polynomials at n points."""
    return np.stack([u**i * v**j for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)], axis=1)
