from pathlib import Path

import numpy as np
import pytest

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products import decide_offsets, open_product, open_tile
from tests.products.builders import TEN, mtd_xml, random_arrays, upsample, write_band, write_folder

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SCENE = DATA / "scene-T48QUE"


@pytest.mark.parametrize(
    "pattern", ["{band}.tif", "x_{band}.jp2", "T33_a b_{band}_{resolution}m.jp2", "{band}.tiff", "y_{band}.TIF"]
)
def test_the_names_that_band_files_have(tmp_path: Path, pattern: str) -> None:
    folder = write_folder(tmp_path / "Zürich, a (1) [x]", pattern=pattern, scl=np.full((120, 150), 4, np.uint8))
    product = open_product(folder)
    assert (product.name, product.level) == ("Zürich, a (1) [x]", "folder")
    assert sorted(product.bands) == sorted(TEN)
    assert product.scl is not None
    with open_tile(folder, TEN, offset="none") as tile:
        chunk, valid = tile.read(Window(0, 0, *tile.shape))
    assert valid.all()
    assert np.array_equal(chunk, np.stack([upsample(array, tile.shape) for array in random_arrays().values()]))


def test_jpeg2000_inside_a_file_named_tif(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", pattern="{band}.jp2")
    for file in folder.iterdir():
        file.rename(file.with_suffix(".tif"))
    with open_tile(folder, TEN, offset="none") as tile:
        assert tile.read(Window(0, 0, *tile.shape))[1].all()


def test_metadata_in_the_folder_is_used(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x")
    (folder / "MTD_MSIL1C.xml").write_text(mtd_xml("L1C", "X", "0400", -1000, 10000))
    product = open_product(folder)
    assert product.level == "L1C"
    assert decide_offsets(product, "auto", TEN).offsets["B12"] == -1000


def test_resolutions_that_are_not_named_are_the_bands_own(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x")
    write_band(folder / "x_B02_20m.tif", np.ones((120, 150), np.uint16), 20)
    assert open_product(folder).bands["B02"].file == "B02.tif"


def test_bands_of_two_scenes_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", pattern="one_{band}.tif")
    write_folder(tmp_path / "x", pattern="two_{band}.tif")
    with pytest.raises(BenexpError, match=r"two files for B02 \(one_B02\.tif, two_B02\.tif\)"):
        open_product(tmp_path / "x")


def test_a_missing_band_is_named_with_what_there_is(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x")
    (folder / "B11.tif").unlink()
    with pytest.raises(BenexpError, match=r"x lacks the bands B11 \(found: B02\.tif, .*B12\.tif"):
        open_tile(folder, TEN, offset="none")


@pytest.mark.skipif(not SCENE.is_dir(), reason="the shared data is not here")
def test_a_real_scene() -> None:
    import rasterio

    folder = next(SCENE.iterdir())
    with pytest.raises(BenexpError, match="offset=none"):
        open_tile(folder, TEN)
    with open_tile(folder, TEN, offset="none") as tile:
        assert tile.shape == (1068, 1068)
        assert str(tile.crs) == "EPSG:32648"
        chunk, valid = tile.read(Window(1000, 7, 68, 1061))
        picture = tile.reduced(("B04", "B03", "B02"), 400, Window(0, 0, *tile.shape))
    assert valid.all() and picture.all()
    assert picture.shape == (3, 356, 356)
    for band in ("B02", "B8A"):
        with rasterio.open(folder / f"{band}.tif") as file:
            assert tile.transform == file.transform or file.res == (20, 20)
            whole = upsample(file.read(1), (1068, 1068))
        assert np.array_equal(chunk[TEN.index(band)], whole[1000:1068, 7:1068])
