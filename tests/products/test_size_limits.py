import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from benexp.core.errors import BenexpError
from benexp.products import open_tile, size_limits
from benexp.products.blocks import JPEG_TILES
from benexp.products.region import region_of
from tests.products.builders import CRS, ORIGIN, write_band

SIZ = b"\xff\x51"


def sparse(path: Path, size: int, **options: object) -> Path:
    """A GeoTIFF of `size` pixels a side, none of which is stored."""
    profile = {"count": 1, "dtype": "uint16", "height": size, "width": size, "crs": CRS, "SPARSE_OK": True}
    transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    with rasterio.open(path, "w", driver="GTiff", transform=transform, compress="DEFLATE", **profile, **options):
        pass
    return path


def state_size(path: Path, size: int, tile: int) -> Path:
    """Have the headers of a JPEG2000 file say another size, and that of its internal tiles."""
    content = bytearray(path.read_bytes())
    siz = content.index(SIZ)
    struct.pack_into(">II", content, siz + 6, size, size)
    struct.pack_into(">II", content, siz + 22, tile, tile)
    struct.pack_into(">II", content, content.index(b"ihdr") + 4, size, size)
    path.write_bytes(content)
    return path


@pytest.fixture
def jpeg(tmp_path: Path) -> Iterator[Path]:
    yield write_band(tmp_path / "B02.jp2", np.ones((128, 128), np.uint16), 10)


@pytest.mark.parametrize("size", [30_000, 2**31 - 2])
def test_more_pixels_than_a_jpeg2000_file_can_hold(jpeg: Path, size: int) -> None:
    state_size(jpeg, size, size)
    with pytest.raises(
        BenexpError,
        match=r"B02\.jp2 (states \d+ x \d+ pixels and has \d+ bytes: its header|is cut into \d+ internal tiles)",
    ):
        open_tile(jpeg.parent, ["B02"], offset="none")


def test_more_internal_tiles_than_can_be_kept_track_of(jpeg: Path) -> None:
    side = int(JPEG_TILES**0.5) + 1
    state_size(jpeg, 32 * side, 32)
    with pytest.raises(BenexpError, match=rf"B02\.jp2 is cut into {side * side} internal tiles"):
        open_tile(jpeg.parent, ["B02"], offset="none")


def test_more_pixels_than_a_geotiff_can_hold(tmp_path: Path) -> None:
    sparse(tmp_path / "B02.tif", 40_000, tiled=True, blockxsize=1024, blockysize=1024)
    with pytest.raises(BenexpError, match=r"B02\.tif states 40000 x 40000 pixels and has \d+ bytes: its header"):
        open_tile(tmp_path, ["B02"], offset="none")


def test_a_piece_too_large_to_decode(tmp_path: Path) -> None:
    sparse(tmp_path / "B02.tif", 8300, blockysize=8300)
    with pytest.raises(BenexpError, match=r"can only be read in pieces of 8300 x 8300 pixels: .*TILED=YES"):
        open_tile(tmp_path, ["B02"], offset="none")


def test_a_full_tile_without_any_data_is_believed(tmp_path: Path) -> None:
    sparse(tmp_path / "B02.tif", 10_980, tiled=True, blockxsize=512, blockysize=512)
    with open_tile(tmp_path, ["B02"], offset="none") as tile:
        assert tile.shape == (10_980, 10_980)


def test_a_part_of_what_is_too_large_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_limits, "LARGEST_AREA", 90_000)
    write_band(tmp_path / "B02.tif", np.ones((300, 301), np.uint16), 10)
    with open_tile(tmp_path, ["B02"], offset="none") as tile:
        with pytest.raises(BenexpError, match=r"301 x 300 pixels at 10 m are too many at once: .*region\.pixels"):
            region_of(tile, {})
        assert region_of(tile, {"pixels": [0, 0, 300, 300]}).shape == (300, 300)
