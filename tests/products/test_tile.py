import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.products import Tile, open_tile
from benexp.products.region import region_of
from tests.products.builders import ORIGIN, TEN, random_arrays, upsample, write_folder, write_safe

Array = np.ndarray[Any, Any]
WHOLE = Window(0, 0, 240, 300)


def whole(tile: Tile) -> tuple[Array, Array]:
    return tile.read(Window(0, 0, *tile.shape))


def test_values_are_model_dn_in_the_order_asked_for(tmp_path: Path) -> None:
    arrays = random_arrays()
    with open_tile(write_safe(tmp_path, offset=-1000), ("B12", "B02")) as tile:
        assert tile.bands == ("B12", "B02")
        chunk, valid = whole(tile)
    assert chunk.dtype == np.uint16 and valid.all()
    for band, values in zip(tile.bands, chunk, strict=True):
        raw = upsample(arrays[band], (240, 300)).astype(int)
        assert (raw < 1000).any(), "some would wrap around"
        assert np.array_equal(values, np.maximum(raw - 1000, 1))


def test_quantification_is_brought_to_that_of_the_models(tmp_path: Path) -> None:
    arrays = random_arrays((60, 60))
    with open_tile(write_safe(tmp_path, arrays=arrays, offset=-100, quantification=1000), TEN) as tile:
        chunk, _ = whole(tile)
    raw = arrays["B02"].astype(int)
    assert np.array_equal(chunk[0], np.maximum((raw - 100) * 10, 1))


def test_a_pixel_that_is_nodata_in_any_band_is_invalid_and_zero_in_that_band(tmp_path: Path) -> None:
    arrays = random_arrays()
    arrays["B03"][10, 20] = 0
    arrays["B11"][100, 7] = 0
    expected = np.ones((240, 300), bool)
    expected[10, 20] = False
    expected[200:202, 14:16] = False
    with open_tile(write_safe(tmp_path, arrays=arrays), TEN) as tile:
        chunk, valid = whole(tile)
    assert np.array_equal(valid, expected)
    assert np.array_equal((chunk == 0).any(0), ~valid)
    assert (chunk == 0).any((1, 2)).tolist() == [band in ("B03", "B11") for band in TEN]
    with open_tile(write_safe(tmp_path / "again", arrays=arrays), ("B02", "B04")) as tile:
        assert whole(tile)[1].all(), "bands that are not asked for do not count"


@pytest.mark.parametrize("block", [64, 100, None])
@pytest.mark.parametrize("pattern", ["{band}.jp2", "{band}.tif"])
@pytest.mark.parametrize("size", [(240, 300), (251, 203)])
def test_a_window_is_the_part_of_the_whole(
    tmp_path: Path, size: tuple[int, int], pattern: str, block: int | None
) -> None:
    if block == 100 and pattern.endswith(".tif"):
        pytest.skip("GeoTIFF tiles are multiples of 16")
    arrays = random_arrays(size)
    arrays["B05"][30:40, 50:60] = 0
    rng = np.random.default_rng(1)
    folder = write_folder(tmp_path / "x", arrays=arrays, pattern=pattern, block=block)
    with open_tile(folder, TEN, offset=-200, cache_bytes=100_000) as tile:
        chunk, valid = whole(tile)
        for _ in range(25):
            row, col = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
            window = Window(row, col, int(rng.integers(1, size[0] - row + 1)), int(rng.integers(1, size[1] - col + 1)))
            part, seen = tile.read(window)
            assert np.array_equal(part, chunk[:, *window.slices])
            assert np.array_equal(seen, valid[window.slices])
    for band, values in zip(TEN, chunk, strict=True):
        raw = upsample(arrays[band], size).astype(int)
        assert np.array_equal(values, np.where(raw, np.maximum(raw - 200, 1), 0))


def sweep(shape: tuple[int, int], size: int, overlap: int) -> list[Window]:
    return [
        Window(row, col, min(size + overlap, shape[0] - row), min(size + overlap, shape[1] - col))
        for row in range(0, shape[0], size)
        for col in range(0, shape[1], size)
    ]


@pytest.mark.parametrize("size", [60, 100, 190])
def test_every_block_is_decoded_once_over_a_sweep_of_overlapping_chunks(tmp_path: Path, size: int) -> None:
    # 240 x 300 in blocks of 64: 4 x 5 at 10 m, 2 x 3 at 20 m.
    with open_tile(write_safe(tmp_path), TEN) as tile:
        for window in sweep(tile.shape, size, 60):
            tile.read(window)
        assert tile.decoded_blocks == 4 * 20 + 6 * 6
        assert tile.decode_seconds > 0


def test_threads_may_read_at_the_same_time(tmp_path: Path) -> None:
    with open_tile(write_safe(tmp_path), TEN, threads=3) as tile:
        chunk, _ = whole(tile)
    with open_tile(write_safe(tmp_path / "again"), TEN, threads=3, cache_bytes=50_000) as tile:
        windows = sweep(tile.shape, 50, 33) * 3
        with ThreadPoolExecutor(5) as pool:
            for window, (part, _) in zip(windows, pool.map(tile.read, windows), strict=True):
                assert np.array_equal(part, chunk[:, *window.slices])


def test_the_scene_classification_masks(tmp_path: Path) -> None:
    scl = np.full((120, 150), 4, np.uint8)
    scl[0, 0], scl[1, 0], scl[2, 2] = 3, 8, 0
    safe = write_safe(tmp_path, scl=scl)
    with open_tile(safe, TEN, scl_mask=[3, 0]) as tile:
        chunk, valid = whole(tile)
    expected = np.ones((240, 300), bool)
    expected[0:2, 0:2] = expected[4:6, 4:6] = False
    assert np.array_equal(valid, expected)
    with open_tile(safe, TEN) as tile:
        seen, all_valid = whole(tile)
    assert all_valid.all() and np.array_equal(chunk, seen)


def test_a_mask_without_a_scene_classification_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"has no scene classification \(SCL\), which mask\.scl=\[3\] needs"):
        open_tile(write_safe(tmp_path), TEN, scl_mask=[3])


def test_a_region_is_a_window_of_the_tile(tmp_path: Path) -> None:
    with open_tile(write_safe(tmp_path), TEN) as tile:
        part = region_of(tile, {"pixels": [33, 41, 100, 90], "bbox": None, "crs": None})
        assert (part.window, part.shape, part.is_whole) == (Window(33, 41, 100, 90), (100, 90), False)
        assert (part.transform.c, part.transform.f) == (ORIGIN[0] + 410, ORIGIN[1] - 330)
        assert part.name == "region-33-41-100-90"
        chunk, _ = whole(tile)
        assert np.array_equal(tile.read(part.window)[0], chunk[:, 33:133, 41:131])
        assert tile.reduced(("B04", "B11"), 50, part.window).shape == (2, 50, 45)
        with pytest.raises(ValueError, match="not inside"):
            tile.read(Window(0, 0, 241, 90))
        west, north = ORIGIN[0] + 415, ORIGIN[1] - 333
        assert region_of(tile, {"bbox": [west, north - 100, west + 100, north]}).window == Window(33, 41, 11, 11)
        everything = region_of(tile, {"pixels": None, "bbox": None, "crs": None})
        assert (everything.window, everything.is_whole) == (Window(0, 0, 240, 300), True)
        assert everything.transform == tile.transform
        # Asked for by its numbers it is a region, with results of its own.
        assert not region_of(tile, {"pixels": [0, 0, 240, 300]}).is_whole
        assert not part.warnings
        clipped = region_of(tile, {"pixels": [200, 0, 100, 300]})
        assert clipped.window == Window(200, 0, 40, 300)
        assert clipped.warnings == ("region.pixels=[200, 0, 100, 300] is clipped to [200, 0, 40, 300]",)


def test_misplaced_bands_are_placed_by_their_coordinates(tmp_path: Path) -> None:
    arrays = random_arrays()
    origins = {"B05": (ORIGIN[0] - 10, ORIGIN[1])}
    with open_tile(write_folder(tmp_path / "x", arrays=arrays, origins=origins), ("B02", "B05"), offset=0) as tile:
        chunk, valid = whole(tile)
        assert len(tile.warnings) == 1 and "B05" in tile.warnings[0]
    shifted = upsample(arrays["B05"], (240, 300))[:, 1:]
    assert np.array_equal(chunk[1][:, :299], shifted)
    assert valid[:, :299].all() and not valid[:, 299].any()


def test_bands_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    far = write_folder(tmp_path / "far", origins={"B05": (ORIGIN[0] + 40, ORIGIN[1])})
    with pytest.raises(BenexpError, match=r"B05\.tif: B05 begins 40 m east"):
        open_tile(far, TEN, offset=0)
    foreign = write_folder(tmp_path / "foreign", crs={"B08": "EPSG:32632"})
    with pytest.raises(BenexpError, match=r"B08\.tif is in EPSG:32632"):
        open_tile(foreign, TEN, offset=0)
    lost = write_folder(tmp_path / "lost", crs={"B02": None})
    with pytest.raises(BenexpError, match=r"B02\.tif has no coordinate reference system"):
        open_tile(lost, TEN, offset=0)


def test_a_truncated_band_stops_the_reading(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    file = next(safe.rglob("*_B04_10m.jp2"))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    with open_tile(safe, TEN) as tile, pytest.raises(BenexpError, match=r"B04_10m\.jp2 is damaged.*download it again"):
        whole(tile)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    arrays = random_arrays()
    first = write_safe(tmp_path / "a", arrays=arrays)
    prints = []
    for path in (first, write_safe(tmp_path / "b", arrays=arrays)):
        with open_tile(path, TEN) as tile:
            prints.append(tile.fingerprint)
            assert tile.input_bytes == sum(file.stat().st_size for file in path.rglob("*.jp2"))
    assert prints[0] == prints[1] and len(prints[0]) == 64
    arrays["B02"][0, 0] += 1
    for other in (write_safe(tmp_path / "c", arrays=arrays), write_safe(tmp_path / "d", offset=-900)):
        with open_tile(other, TEN) as tile:
            assert tile.fingerprint not in prints
            prints.append(tile.fingerprint)


def test_a_byte_anywhere_makes_another_fingerprint(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "x")
    band = product / "B02.tif"
    whole = band.read_bytes()
    with open_tile(product, TEN, offset=0) as tile:
        before = tile.fingerprint
    at = len(whole) // 2
    band.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with open_tile(product, TEN, offset=0) as tile:
        assert tile.fingerprint != before


def test_a_flipped_byte_in_a_zip_is_found_before_anything_is_done_with_it(tmp_path: Path) -> None:
    """The checksum in the zip's directory is still that of the sound file."""
    product = write_folder(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for path in product.iterdir():
            file.write(path, path.name)
        at = file.getinfo("B02.tif").header_offset + 5000
    whole = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with (
        open_tile(tmp_path / "x.zip", TEN, offset=0) as tile,
        pytest.raises(BenexpError, match=r"B02\.tif cannot be read \(Bad CRC-32.*download it again"),
    ):
        _ = tile.fingerprint


@pytest.mark.parametrize("pattern", ["*_B02_10m.jp2", "MTD_MSIL2A.xml"])
def test_a_product_that_is_replaced_while_it_is_read_stops_the_reading(tmp_path: Path, pattern: str) -> None:
    product = write_safe(tmp_path / "x")
    (file,) = product.rglob(pattern)
    with open_tile(product, TEN) as tile:
        tile.read(Window(0, 0, 120, 120))
        shutil.copy(file, tmp_path / "new")
        (tmp_path / "new").replace(file)
        for use in (
            lambda: tile.read(Window(0, 0, 120, 120)),
            lambda: tile.fingerprint,
            lambda: tile.reduced(TEN, 9, WHOLE),
        ):
            with pytest.raises(BenexpError, match="was changed while it was read: run it again"):
                use()


def test_a_stamp_is_that_of_the_very_files(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "x")
    shutil.copytree(product, tmp_path / "copy" / "x")
    (tmp_path / "link").symlink_to(tmp_path)
    with open_tile(product, TEN, offset=0) as tile:
        stamp, fingerprint = tile.stamp, tile.fingerprint
    with open_tile(tmp_path / "link" / "x", TEN, offset=0) as tile:
        assert tile.stamp == stamp
    with open_tile(tmp_path / "copy" / "x", TEN, offset=0) as tile:
        assert tile.stamp != stamp and tile.fingerprint == fingerprint


def test_bands_of_20_m_alone_make_a_tile_at_10_m(tmp_path: Path) -> None:
    with open_tile(write_folder(tmp_path / "x"), ("B05", "B11"), offset=0) as tile:
        assert tile.shape == (240, 300)
        assert tile.transform.a == 10
        assert whole(tile)[1].all()


def test_any_bands_are_had_at_low_resolution(tmp_path: Path) -> None:
    arrays = random_arrays()
    for band, value in (("B04", 4000), ("B8A", 100)):
        arrays[band][:] = value
        arrays[band][:30] = 0
    with open_tile(write_safe(tmp_path, arrays=arrays), ("B05",)) as tile:
        numbers = tile.reduced(("B8A", "B04"), 100, WHOLE)
    assert numbers.shape == (2, 80, 100) and numbers.dtype == np.uint16
    assert (numbers[0, :20] == 0).all() and (numbers[0, 20:] == 100).all()
    assert (numbers[1, :10] == 0).all() and (numbers[1, 10:] == 4000).all()


def test_a_window_at_low_resolution_is_every_nth_pixel_of_it(tmp_path: Path) -> None:
    arrays = random_arrays()
    with open_tile(write_safe(tmp_path, arrays=arrays), ("B04",)) as tile:
        (full,) = tile.reduced(("B04",), 100, Window(60, 90, 100, 80))
        (small,) = tile.reduced(("B04",), 60, Window(60, 90, 100, 80))
    assert np.array_equal(full, arrays["B04"][60:160, 90:170])
    assert small.shape == (50, 40)
