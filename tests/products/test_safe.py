import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products import decide_offsets, open_product, open_tile
from tests.products.builders import TEN, random_arrays, upsample, write_band, write_safe, zip_product

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def test_an_l2a_product(tmp_path: Path) -> None:
    product = open_product(write_safe(tmp_path, scl=np.full((120, 150), 4, np.uint8)))
    assert product.name == "S2A_MSIL2A_20230625T234621_N0509_R073_T33UUP_20230626T022158"
    assert (product.level, product.baseline, product.quantification) == ("L2A", "05.09", 10000)
    assert sorted(product.bands) == sorted(TEN)
    assert product.scl is not None and product.scl.resolution == 20
    assert product.warnings == ()


def test_an_l1c_product_comes_with_a_warning(tmp_path: Path) -> None:
    product = open_product(write_safe(tmp_path, level="L1C"))
    assert product.level == "L1C"
    assert sorted(product.bands) == sorted(TEN)
    (warning,) = product.warnings
    assert "L1C" in warning and "trained on L2A" in warning


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_a_zipped_product_reads_as_the_folder_does(tmp_path: Path, level: str, compression: int) -> None:
    safe = write_safe(tmp_path, level=level)
    zipped = zip_product(safe, tmp_path / "some {other name [1], ü.zip", compression)
    with open_tile(safe, TEN) as one, open_tile(zipped, TEN) as other:
        window = Window(0, 0, *one.shape)
        assert (one.name, one.shape, one.transform, one.offsets) == (
            other.name,
            other.shape,
            other.transform,
            other.offsets,
        )
        for a, b in zip(one.read(window), other.read(window), strict=True):
            assert np.array_equal(a, b)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([safe.name, zipped.name]), "nothing is unpacked"


def test_the_finest_resolution_of_a_band_is_taken(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    images = next(safe.glob("GRANULE/*/IMG_DATA"))
    coarse = np.full((120, 150), 7, np.uint16)
    write_band(images / "R20m" / "T33UUP_20230625T234621_B02_20m.jp2", coarse, 20)
    write_band(images / "R60m" / "T33UUP_20230625T234621_B01_60m.jp2", coarse[:40, :50], 60)
    write_band(images / "R20m" / "T33UUP_20230625T234621_B01_20m.jp2", coarse, 20)
    product = open_product(safe)
    assert product.bands["B02"].resolution == 10
    assert product.bands["B01"].resolution == 20


def test_masks_and_pictures_are_not_taken_for_bands(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    granule = next(safe.glob("GRANULE/*"))
    mask = np.zeros((240, 300), np.uint8)
    write_band(granule / "QI_DATA" / "MSK_DETFOO_B02.jp2", mask, 10)
    write_band(granule / "IMG_DATA" / "R10m" / "T33UUP_20230625T234621_TCI_10m.jp2", mask, 10)
    assert len(open_product(safe).bands) == 10


@pytest.mark.parametrize(
    ("granule", "pattern"),
    [
        ("L2A_T33UUP_A000734_20160906T101022", "R{resolution}m/L2A_T33UUP_20160906T101022_{band}_{resolution}m.jp2"),
        (
            "S2A_OPER_MSI_L1C_TL_EPA__20160906T191442_A000734_T33UUP_N02.04",
            "S2A_OPER_MSI_L1C_TL_EPA__20160906T191442_A000734_T33UUP_{band}.jp2",
        ),
    ],
)
def test_old_names(tmp_path: Path, granule: str, pattern: str) -> None:
    safe = tmp_path / "S2A_OPER_PRD_MSI_PDMC_20160910T101022_R022_V20160906T101022.SAFE"
    for band, array in random_arrays((60, 60)).items():
        resolution = 600 // array.shape[0]
        write_band(
            safe / "GRANULE" / granule / "IMG_DATA" / pattern.format(band=band, resolution=resolution),
            array,
            resolution,
        )
    product = open_product(safe)
    assert sorted(product.bands) == sorted(TEN)
    assert product.level == ("L1C" if "L1C" in granule else "L2A")


def test_a_product_of_several_tiles_takes_the_folder_of_one(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    one = next(safe.glob("GRANULE/*"))
    other = safe / "GRANULE" / "L2A_T33UVP_A041826_20230625T234624"
    shutil.copytree(one, other)
    with pytest.raises(BenexpError, match="holds 2 tiles: give the folder of one, such as GRANULE/L2A_T33UUP"):
        open_product(safe)
    product = open_product(other)
    assert product.name == other.name
    assert decide_offsets(product, "auto", TEN).offsets["B02"] == -1000, "the product's metadata holds for its tiles"
    with open_tile(other, TEN) as tile:
        assert tile.read(Window(0, 0, *tile.shape))[1].all()


def test_two_files_for_one_band_are_not_chosen_between(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    image = next(safe.glob("GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2"))
    shutil.copy(image, image.with_name("copy_B02_10m.jp2"))
    with pytest.raises(BenexpError, match="two files for B02"):
        open_product(safe)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158", -1000),
        ("S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857", 0),
    ],
)
def test_bands_under_real_metadata(tmp_path: Path, name: str, offset: int) -> None:
    safe = write_safe(tmp_path, name=name, xml=False)
    shutil.copy(DATA / "metadata-xml" / f"{name}.SAFE" / "MTD_MSIL2A.xml", safe)
    with open_tile(safe, TEN) as tile:
        assert tile.offsets == dict.fromkeys(TEN, offset)
        chunk, valid = tile.read(Window(0, 0, *tile.shape))
    assert valid.all()
    for band, array in random_arrays().items():
        expected = np.maximum(upsample(array, tile.shape).astype(int) + offset, 1)
        assert np.array_equal(chunk[TEN.index(band)], expected)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_the_real_product_whose_10_m_grid_is_10_m_off() -> None:
    import rasterio

    safe = next((DATA / "mini-safe-N0211").iterdir())
    with open_tile(safe, TEN) as tile:
        assert tile.shape == (246, 192)
        assert set(tile.offsets.values()) == {0}
        (warning,) = tile.warnings
        assert warning.startswith("B05, B06, B07, B8A, B11, B12 begin -10 m east")
        chunk, valid = tile.read(Window(0, 0, *tile.shape))
    assert not valid[:, -1].any(), "the last column lies outside the 20 m bands"
    with rasterio.open(next(safe.rglob("*_B05_20m.jp2"))) as file:
        coarse = file.read(1)
    # Column 0 of the tile is column 1 of the repeated band.
    expected = coarse.repeat(2, 0).repeat(2, 1)[:246, 1:]
    assert np.array_equal(chunk[TEN.index("B05")][:, :191][valid[:, :191]], expected[valid[:, :191]])
