import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as project

from benexp.report.lonlat import fit, powers


@pytest.mark.parametrize(
    ("epsg", "west", "north"),
    [
        (32633, 300000, 5300040),
        (32631, 199980, 109800),  # over the equator
        (32733, 699960, 5900020),
        (32633, 500000, 9200000),  # 82 degrees north
        (32601, 300000, 8000040),  # over the antimeridian
        (32660, 699960, 7900000),
        (3035, 4300000, 3200000),
    ],
)
def test_a_full_tile_is_placed_within_a_tenth_of_a_metre(epsg: int, west: float, north: float) -> None:
    crs, transform, shape = CRS.from_epsg(epsg), Affine(10, 0, west, 0, -10, north), (10980, 10800)
    u, v = np.random.default_rng(0).uniform(-1, 1, (2, 2000))
    x, y = west + 54000 * (u + 1), north - 54900 * (1 - v)
    longitude, latitude = map(np.array, project(crs, CRS.from_epsg(4326), x, y))
    found, terms = fit(crs, transform, shape), powers(u, v)
    east = (terms @ found.longitude - longitude + 180) % 360 - 180
    metres = np.hypot(east * np.cos(np.radians(latitude)), terms @ found.latitude - latitude) * 111_320
    assert metres.max() < 0.1
