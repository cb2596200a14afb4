from typing import Any

import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.region import resolve_region

UTM = CRS.from_epsg(32633)
GRID = Affine(10, 0, 600000, 0, -10, 5300040)
SHAPE = (100, 200)


def resolve(**region: Any) -> Window:
    return resolve_region({"pixels": None, "bbox": None, "crs": None} | region, SHAPE, UTM, GRID)


def test_no_region_is_the_whole_tile() -> None:
    assert resolve() == resolve_region(None, SHAPE, UTM, GRID) == Window(0, 0, 100, 200)


def test_pixels_are_row_col_height_width() -> None:
    assert resolve(pixels=[10, 20, 30, 40]) == Window(10, 20, 30, 40)


def test_regions_are_clipped_to_the_tile() -> None:
    assert resolve(pixels=[90, -5, 30, 40]) == Window(90, 0, 10, 35)
    assert resolve(bbox=[0, 0, 1e7, 1e7]) == Window(0, 0, 100, 200)


def test_a_box_is_west_south_east_north_and_snapped_outward() -> None:
    assert resolve(bbox=[600100, 5299740, 600200, 5299940]) == Window(10, 10, 20, 10)
    assert resolve(bbox=[600101, 5299741, 600199, 5299939]) == Window(10, 10, 20, 10)
    assert resolve(bbox=[600099, 5299739, 600201, 5299941]) == Window(9, 9, 22, 12)


def test_a_box_in_degrees() -> None:
    box = transform_bounds(UTM, "EPSG:4326", 600100, 5299740, 600200, 5299940)
    window = resolve(bbox=list(box), crs="EPSG:4326")
    # The box around a turned box is a little larger.
    assert window.row in (8, 9, 10) and window.col in (8, 9, 10)
    assert 20 <= window.height <= 24 and 10 <= window.width <= 14


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"pixels": [0, 0, 10, 10], "bbox": [0, 0, 1, 1]}, "both given"),
        ({"pixels": [0, 0, 10]}, r"region\.pixels=.*four numbers, \[row, col, height, width\]"),
        ({"bbox": "0 0 1 1"}, r"region\.bbox=.*four numbers, \[west, south, east, north\]"),
        ({"bbox": [0, 0, float("nan"), 1]}, "four numbers"),
        ({"pixels": [100, 0, 10, 10]}, r"region\.pixels=\[100, 0, 10, 10\] lies outside the tile of 100 x 200"),
        ({"pixels": [0, 0, 0, 10]}, "lies outside"),
        ({"bbox": [700000, 5299740, 700200, 5299940]}, "lies outside"),
        ({"bbox": [600200, 5299740, 600100, 5299940]}, "lies outside"),
        ({"bbox": [15, 47, 16, 48], "crs": "EPSG:nonsense"}, r"region\.crs=EPSG:nonsense"),
    ],
)
def test_regions_that_cannot_be(region: dict[str, Any], message: str) -> None:
    with pytest.raises(BenexpError, match=message):
        resolve(**region)
