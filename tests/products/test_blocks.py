"""The reader of blocks: each decoded once, damage raised, little kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products.blocks import UNIT, BlockReader, Interest, Key, Raster, inspect
from benexp.products.placement import place
from benexp.products.product import BandFile
from benexp.products.thumbnail import read_decimated
from tests.products.builders import write_band

WHOLE = Interest(0, 2560, 0)


def band_file(path: Path, array: np.ndarray[Any, Any], **options: Any) -> BandFile:
    write_band(path, array, 10, **options)
    return BandFile("B02", str(path), 10, path.name)


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(1, 5000, (256, 320), dtype=np.uint16)


def test_jpeg2000_is_read_by_its_own_blocks_and_small_ones_of_geotiffs_are_grouped(
    tmp_path: Path, pixels: np.ndarray[Any, Any]
) -> None:
    large = np.ones((1100, 1200), np.uint16)
    assert inspect(band_file(tmp_path / "a.jp2", pixels, block=64)).unit == (64, 64)
    assert inspect(band_file(tmp_path / "b.tif", large, block=128)).unit == (UNIT, UNIT)
    strips = inspect(band_file(tmp_path / "c.tif", large, block=None, blockysize=1))
    assert strips.unit == (UNIT, 1200)


def test_units_hold_the_pixels_that_the_table_makes_of_them(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    raster = inspect(band_file(tmp_path / "a.jp2", pixels, block=100))
    doubled = (np.arange(1 << 16) * 2).astype(np.uint16)
    reader = BlockReader([raster, raster], [None, doubled], threads=2, cache_bytes=1 << 20)
    units = reader.read([Key(0, 1, 1), Key(0, 2, 3), Key(1, 0, 0)], WHOLE)
    reader.close()
    assert np.array_equal(units[Key(0, 1, 1)], pixels[100:200, 100:200])
    assert np.array_equal(units[Key(0, 2, 3)], pixels[200:, 300:])
    assert np.array_equal(units[Key(1, 0, 0)], pixels[:100, :100] * 2)
    assert reader.decoded == 3


def test_callers_at_the_same_time_share_what_is_being_decoded(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    raster = inspect(band_file(tmp_path / "a.jp2", pixels, block=64))
    reader = BlockReader([raster], [None], threads=3, cache_bytes=1 << 20)
    keys = [Key(0, row, col) for row in range(4) for col in range(5)]
    barrier = threading.Barrier(6)

    def call(_: int) -> dict[Key, Any]:
        barrier.wait()
        return reader.read(keys, WHOLE)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(call, range(6)))
    reader.close()
    assert reader.decoded == len(keys)
    assert all(np.array_equal(answer[keys[7]], pixels[64:128, 128:192]) for answer in answers)


class Blank(BlockReader):
    """Decodes nothing: what is counted is how often it would."""

    def _read_unit(self, key: Key) -> np.ndarray[Any, Any]:
        return np.zeros(self.rasters[key.raster].unit, np.uint8)


SIDE, ACROSS = 512, 8


def blank(kept: int) -> Blank:
    """8 x 8 units of 512, of which `kept` are kept."""
    grid = Affine(10, 0, 0, 0, -10, 0)
    file = BandFile("B02", "", 10, "")
    raster = Raster(file, (ACROSS * SIDE, ACROSS * SIDE), None, grid, "uint8", None, (SIDE, SIDE))
    return Blank([raster], [None], threads=1, cache_bytes=kept * SIDE * SIDE)


def sweep(reader: Blank, chunk: int, overlap: int = 100) -> None:
    whole = ACROSS * SIDE
    for top in range(0, whole, chunk):
        for left in range(0, whole, chunk):
            bottom, right = min(top + chunk + overlap, whole), min(left + chunk + overlap, whole)
            rows, cols = range(top // SIDE, -(-bottom // SIDE)), range(left // SIDE, -(-right // SIDE))
            keys = [Key(0, row, col) for row in rows for col in cols]
            reader.read(keys, Interest(top * 10, bottom * 10, left * 10))


# By last use alone it would take 23, 22 and 29.
@pytest.mark.parametrize(("chunk", "kept"), [(700, 19), (1100, 14), (1600, 20)])
def test_a_sweep_decodes_each_unit_once_with_few_kept(chunk: int, kept: int) -> None:
    with closing(blank(kept)) as reader:
        sweep(reader, chunk)
    assert reader.decoded == ACROSS * ACROSS


def test_a_second_sweep_is_not_hampered_by_what_is_left_of_the_first() -> None:
    with closing(blank(19)) as reader:
        sweep(reader, 700)
        sweep(reader, 700)
    assert reader.decoded <= 2 * ACROSS * ACROSS


def test_no_more_is_kept_than_allowed(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    raster = inspect(band_file(tmp_path / "a.jp2", pixels, block=64))
    reader = BlockReader([raster], [None], threads=1, cache_bytes=0)
    for _ in range(3):
        reader.read([Key(0, 0, 0)], WHOLE)
        reader.read([Key(0, 1, 1)], WHOLE)
    reader.close()
    assert reader.decoded == 6


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg2000_raises(tmp_path: Path, pixels: np.ndarray[Any, Any], share: float) -> None:
    """GDAL only prints this where a read spans blocks, and gives wrong pixels."""
    file = band_file(tmp_path / "a.jp2", pixels, block=64)
    path = Path(file.path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    keys = [Key(0, row, col) for row in range(4) for col in range(5)]
    with pytest.raises(BenexpError, match=r"a\.jp2 (is damaged|cannot be opened).*download it again") as error:
        raster = inspect(file)
        reader = BlockReader([raster], [None], threads=2, cache_bytes=1 << 20)
        try:
            reader.read(keys, WHOLE)
        finally:
            reader.close()
    assert "\n" not in str(error.value)


def test_a_failure_is_not_remembered_as_an_answer(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    file = band_file(tmp_path / "a.tif", pixels, block=64, compress="deflate")
    raster = inspect(file)
    whole = Path(file.path).read_bytes()
    Path(file.path).write_bytes(whole[: len(whole) // 2])
    reader = BlockReader([raster], [None], threads=1, cache_bytes=1 << 20)
    with pytest.raises(BenexpError, match="download it again"):
        reader.read([Key(0, 0, 0)], WHOLE)
    assert reader.decoded == 0
    Path(file.path).write_bytes(whole)
    assert np.array_equal(reader.read([Key(0, 0, 0)], WHOLE)[Key(0, 0, 0)], pixels)
    reader.close()


def test_files_that_would_lead_elsewhere_are_not_opened(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    write_band(tmp_path / "a.tif", pixels, 10)
    vrt = tmp_path / "B02.tif"
    vrt.write_text(
        '<VRTDataset rasterXSize="320" rasterYSize="256"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    with pytest.raises(BenexpError, match="cannot be opened as JPEG2000 or GeoTIFF"):
        inspect(BandFile("B02", str(vrt), 10, "B02.tif"))


def test_a_file_of_several_bands_is_told(tmp_path: Path) -> None:
    path = tmp_path / "B02.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=8, width=8, dtype="uint16", transform=Affine(10, 0, 0, 0, -10, 0)
    ):
        pass
    with pytest.raises(BenexpError, match="has 3 bands"):
        inspect(BandFile("B02", str(path), 10, "B02.tif"))


def test_files_beside_a_band_are_not_looked_at(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """GDAL would take smaller pictures, places and nodata from them, and open whatever they name."""
    write_band(tmp_path / "elsewhere.tif", np.full_like(pixels, 7), 10)
    path = write_band(tmp_path / "B02.tif", pixels, 10)
    height, width = pixels.shape
    (tmp_path / "B02.tif.ovr").write_text(
        f'<VRTDataset rasterXSize="{width // 2}" rasterYSize="{height // 2}"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'elsewhere.tif'}</SourceFilename><SourceBand>1</SourceBand>"
        f"</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    other = write_band(tmp_path / "B03.tif", pixels, 10)
    (tmp_path / "B03.tif.aux.xml").write_text(
        f'<PAMDataset><SRS>EPSG:32601</SRS><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f'{tmp_path / "elsewhere.tif"}</MDI></Metadata><PAMRasterBand band="1"><NoDataValue>5</NoDataValue>'
        f"</PAMRasterBand></PAMDataset>"
    )
    for file in (path, other):
        raster = inspect(BandFile(file.stem, str(file), None, file.name))
        assert raster.nodata is None and raster.crs.to_epsg() == 32633
        whole = Window(0, 0, height, width)
        grid = raster.transform
        small = read_decimated(raster, place(whole, raster, grid), (height // 2, width // 2))
        assert np.isin(small, pixels).all() and not (small == 7).all()
