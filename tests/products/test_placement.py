import math

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.blocks import Raster
from benexp.products.placement import check_raster, check_together, cover, place
from benexp.products.product import BandFile


def raster(
    name: str = "B02",
    resolution: float = 10,
    shape: tuple[int, int] = (120, 120),
    west: float = 600000,
    north: float = 5300040,
    *,
    crs: str | None = "EPSG:32633",
    transform: Affine | None = None,
    dtype: str = "uint16",
) -> Raster:
    return Raster(
        file=BandFile(name, f"/there/{name}.tif", None, f"{name}.tif"),
        shape=shape,
        crs=CRS.from_string(crs) if crs else None,
        transform=transform or Affine(resolution, 0, west, 0, -resolution, north),
        dtype=dtype,
        nodata=None,
        unit=shape,
    )


def test_aligned_bands_are_repeated() -> None:
    assert cover(0, 6, 0, 10, 6).band.tolist() == [0, 1, 2, 3, 4, 5]
    assert cover(0, 6, 0, 20, 3).band.tolist() == [0, 0, 1, 1, 2, 2]
    assert cover(0, 7, 0, 60, 2).band.tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert cover(3, 2, 0, 20, 3).band.tolist() == [1, 2]


def test_shifted_bands_are_placed_by_pixel_centres() -> None:
    # The tile begins 10 m after the band: its first pixel lies in the second half of the band's first.
    assert cover(0, 4, 10, 20, 3).band.tolist() == [0, 1, 1, 2]
    # 4 m are less than half a pixel: nearest is the same pixel.
    assert cover(0, 3, 4, 10, 4).band.tolist() == [0, 1, 2]
    assert cover(0, 3, 6, 10, 4).band.tolist() == [1, 2, 3]


def test_pixels_outside_a_band_are_left_out() -> None:
    before = cover(0, 4, -10, 20, 3)
    assert (before.window, before.band.tolist()) == (slice(1, 4), [0, 0, 1])
    after = cover(4, 4, 0, 20, 3)
    assert (after.window, after.band.tolist()) == (slice(0, 2), [2, 2])
    assert cover(10, 4, 0, 20, 3).band.tolist() == []


def test_any_window_is_a_part_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    for shift in (-10, 0, 10, 13.7):
        whole = cover(0, 100, shift, 20, 50)
        full = np.full(100, -1)
        full[whole.window] = whole.band
        for _ in range(50):
            start = int(rng.integers(0, 99))
            count = int(rng.integers(1, 101 - start))
            part = cover(start, count, shift, 20, 50)
            here = np.full(count, -1)
            here[part.window] = part.band
            assert here.tolist() == full[start : start + count].tolist()


def test_rows_grow_southward_and_columns_eastward() -> None:
    grid = raster().transform
    placed = place(Window(0, 0, 2, 4), raster("B05", 20, (60, 60), west=600000 - 10, north=5300040 + 10), grid)
    assert placed.rows.band.tolist() == [0, 1]
    assert placed.cols.band.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (raster(crs=None), "no coordinate reference system"),
        (raster(transform=Affine(10, 1, 0, 1, -10, 0)), "rotated"),
        (raster(transform=Affine(10, 0, 0, 0, 10, 0)), "rotated or mirrored"),
        (raster(transform=Affine(10, 0, math.nan, 0, -10, 0)), "nowhere on a map"),
        (raster(transform=Affine(10, 0, 0, 0, -10, math.inf)), "nowhere on a map"),
        (raster(transform=Affine(10, 0, 1e300, 0, -10, 0)), "nowhere on a map"),
        (raster(transform=Affine(math.nan, 0, 0, 0, -10, 0)), "not of 10, 20 or 60 m"),
        (raster(crs="EPSG:4326"), "nowhere on a map in metres"),
        (raster(resolution=30), "pixels of 30 x 30, not of 10, 20 or 60 m"),
        (raster(dtype="float32"), "is float32"),
    ],
)
def test_rasters_that_are_no_bands(wrong: Raster, message: str) -> None:
    with pytest.raises(BenexpError, match=message):
        check_raster(wrong)


def test_bands_that_lie_together_are_accepted() -> None:
    assert check_together([raster(), raster("B05", 20, (60, 60)), raster("B01", 60, (20, 20))], raster()) == ()
    # Odd sizes: the coarser band ends half a pixel earlier or later.
    assert check_together([raster("B05", 20, (60, 61)), raster("B01", 60, (21, 21))], raster(shape=(121, 121))) == ()


def test_a_small_shift_is_a_warning_that_names_the_bands() -> None:
    shifted = [raster("B05", 20, (60, 60), west=599990), raster("B06", 20, (60, 60), west=599990)]
    (warning,) = check_together([raster(), *shifted], raster())
    assert warning == "B05, B06 begin -10 m east, 0 m north of B02: placed by coordinates"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (raster("B05", 20, (60, 60), west=600020), "B05 begins 20 m east and 0 m north of B02"),
        (raster("B05", 20, (60, 60), north=5300000), "B05 begins 0 m east and -40 m north of B02"),
        (raster("B05", 20, (60, 60), crs="EPSG:32632"), "is in EPSG:32632, B02 in EPSG:32633"),
        (raster("B05", 20, (50, 60)), "B05 covers 1200 x 1000 m, B02 1200 x 1200 m"),
    ],
)
def test_bands_that_do_not_belong_together(wrong: Raster, message: str) -> None:
    with pytest.raises(BenexpError, match=message):
        check_together([raster(), wrong], raster())
