"""Inputs that are not as they should be, through the command line: refused in one line, or warned about and tagged."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_bounds

from benexp.cli.app import main
from tests.products.builders import (
    CRS,
    ORIGIN,
    TEN,
    random_arrays,
    stac_item,
    upsample,
    write_band,
    write_folder,
    write_safe,
    zip_product,
)
from tests.tasks.runs import files_below

SIZE = (130, 140)
NULL = ("model=demo", "backend=null", "chunking.chunk_size=200")
NEW = "S2A_MSIL2A_20230625T234621_N0509_R073_T33UUP_20230626T022158"


def refused(caplog: pytest.LogCaptureFixture, out: Path, *arguments: str) -> str:
    """The one line with which a command exits with 1 and writes nothing."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert main([*NULL, f"output_folder={out}", *arguments]) == 1
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "\n" not in error
    assert not out.exists() or not files_below(out)
    return error


def classified(caplog: pytest.LogCaptureFixture, out: Path, *arguments: str) -> dict[str, Any]:
    """The record of a command that exits with 0, for one tile; its warnings were logged, too."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert main([*NULL, f"output_folder={out}", *arguments]) == 0
    (path,) = out.glob("*/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert all(warning in caplog.text for warning in record["warnings"])
    return record


def tags(out: Path) -> dict[str, str]:
    (path,) = out.glob("*/*_class.tif")
    with rasterio.open(path) as raster:
        return dict(raster.tags())


def dark(low: int = 1, high: int = 3000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {band: rng.integers(low, high, array.shape, dtype=np.uint16) for band, array in random_arrays(SIZE).items()}


def test_an_offset_against_the_metadata_is_refused_or_overridden(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = write_safe(tmp_path, arrays=dark(), offset=None, baseline="0211", name=NEW.replace("N0509", "N0211"))
    error = refused(caplog, tmp_path / "out", f"tile_folder={old}", "offset=-1000")
    assert "offset=-1000 contradicts" in error and "MTD_MSIL2A.xml: offset 0" in error
    record = classified(caplog, tmp_path / "out", f"tile_folder={old}", "offset=-1000", "offset_override=true")
    overridden, clipped = record["warnings"]
    assert overridden == "offset=-1000 overrides the product's own evidence (MTD_MSIL2A.xml: offset 0)"
    assert re.match(r"pixels are 0 or less after the offset, and set to 1, in B02 \(3\d %\), B03 \(3\d %\), ", clipped)
    assert set(record["offsets"].values()) == {-1000} and record["offset_source"] == "the configuration: offset=-1000"
    assert tags(tmp_path / "out")["OFFSET_OVERRIDE"] == overridden
    error = refused(caplog, tmp_path / "lone", f"tile_folder={old}", "offset_override=true")
    assert error == "offset_override=true: takes effect only beside offset=none or a number"
    # The same that the product says is no override.
    record = classified(caplog, tmp_path / "same", f"tile_folder={old}", "offset=none")
    assert not record["warnings"] and "OFFSET_OVERRIDE" not in tags(tmp_path / "same")


def test_one_offset_is_not_forced_on_all_products_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "in" / "silent", arrays=dark(1001, 4000))
    write_folder(tmp_path / "in" / NEW.replace("N0509", "N0211"), arrays=dark())
    arguments = [*NULL, f"input_dir={tmp_path / 'in'}", f"output_folder={tmp_path / 'out'}", "offset=-1000"]
    assert main(arguments) == 1
    assert [path.parent.name for path in (tmp_path / "out").glob("*/run.json")] == ["silent"]
    assert "silent: states no offset of its own: offset=-1000 is used" in caplog.text
    assert "offset=-1000 contradicts" in caplog.text and "processing baseline 02.11, without an offset" in caplog.text


def test_without_xml_name_and_item_decide(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    named = write_folder(tmp_path / NEW, arrays=dark(1001, 4000))
    record = classified(caplog, tmp_path / "named", f"tile_folder={named}")
    assert set(record["offsets"].values()) == {-1000} and not record["warnings"]
    assert record["offset_source"] == f"{NEW}: processing baseline 05.09, with an offset"
    item = stac_item("05.09", **{"earthsearch:boa_offset_applied": True})
    (named / "item.json").write_text(json.dumps(item))
    for count, product in enumerate((named, zip_product(named))):
        record = classified(caplog, tmp_path / f"item{count}", f"tile_folder={product}")
        assert set(record["offsets"].values()) == {0}
        assert record["offset_source"] == "item.json: earthsearch:boa_offset_applied: true"
        # The item is wrong, as some are: the pixels show it.
        (warning,) = record["warnings"]
        assert "hardly a pixel is darker than 1000" in warning and "earthsearch:boa_offset_applied: true" in warning


def test_contradicting_evidence_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    product = write_folder(tmp_path / "tile", arrays=dark())
    item = stac_item("05.09", -0.1, **{"earthsearch:boa_offset_applied": True})
    (product / "item.json").write_text(json.dumps(item))
    error = refused(caplog, tmp_path / "out", f"tile_folder={product}")
    assert "(item.json: earthsearch:boa_offset_applied: true; item.json: offset -1000)" in error
    assert "offset=none with offset_override=true" in error
    named = write_safe(tmp_path, arrays=dark(), name=NEW.replace("N0509", "N0211"), offset=-1000)
    error = refused(caplog, tmp_path / "out", f"tile_folder={named}")
    assert "MTD_MSIL2A.xml: offset -1000; S2A_MSIL2A" in error and "processing baseline 02.11" in error


@pytest.mark.parametrize(("low", "high"), [(1600, 4000), (4000, 9000)])
def test_an_offset_left_in_a_bright_scene_is_noticed(
    low: int, high: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    product = write_folder(tmp_path / "clouds", arrays=dark(low, high))
    record = classified(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    (warning,) = record["warnings"]
    assert "hardly a pixel is darker than 1000" in warning and "unless these are clouds or snow" in warning


def test_pictures_of_8_bits_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = {band: (array % 255 + 1).astype(np.uint8) for band, array in random_arrays(SIZE).items()}
    product = write_folder(tmp_path / "x", arrays=arrays)  # type: ignore[arg-type]
    error = refused(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    assert "B02.tif is uint8, a picture for display: give the uint16 band" in error


def test_files_of_20_m_for_every_band_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for band, array in random_arrays((260, 280)).items():
        write_band(tmp_path / "x" / f"{band}_20m.tif", array[:130, :140], 20)
    error = refused(caplog, tmp_path / "out", f"tile_folder={tmp_path / 'x'}", "offset=none")
    assert "B02, B03, B04, B08 in coarser pixels than Sentinel-2 has (B02: 20 m, not 10 m)" in error


def test_a_patch_size_that_the_network_was_not_trained_on_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    product = write_folder(tmp_path / "x", arrays=random_arrays(SIZE))
    asked = (f"tile_folder={product}", "offset=none", "chunking.patch_size=60", "chunking.stride=60")
    error = refused(caplog, tmp_path / "out", *asked)
    assert "chunking.patch_size=60: demo was trained on patches of 120 px: leave it at 120" in error
    classified(caplog, tmp_path / "random", *asked, "model.weights=random")


def test_a_tile_or_region_without_any_data_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = random_arrays((260, 140))
    for array in arrays.values():
        array[: len(array) // 2] = 0
    product = write_folder(tmp_path / "half", arrays=arrays)
    error = refused(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none", "region.pixels=[0,0,120,140]")
    assert "there is no data: all pixels are nodata" in error
    # Patches that touch it have data beyond it, and the grid of the whole has them all: the region is as empty.
    classified(caplog, tmp_path / "whole", f"tile_folder={product}", "offset=none")
    region = (f"tile_folder={product}", "offset=none", "region.pixels=[0,0,120,140]")
    assert main([*NULL, f"output_folder={tmp_path / 'whole'}", *region]) == 1
    assert "there is no data" in caplog.messages[-1]
    assert not list(tmp_path.glob("whole/half/region*"))
    empty = write_folder(tmp_path / "empty", arrays={band: 0 * array for band, array in arrays.items()})
    assert "there is no data" in refused(caplog, tmp_path / "out", f"tile_folder={empty}", "offset=none")


def test_saturated_pixels_get_no_class_unless_they_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = dark()
    arrays["B08"][:40, :50] = 65535
    product = write_folder(tmp_path / "x", arrays=arrays)
    expected = np.ones(SIZE, bool)
    expected[:40, :50] = False
    masked = classified(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    assert masked["valid_pixels"] == expected.sum()
    assert "SATURATED" not in tags(tmp_path / "out")
    with rasterio.open(next((tmp_path / "out").glob("*/*_class.tif"))) as raster:
        assert np.array_equal(raster.read(1) != 255, expected)
    # In the same folder: the saved grid answers another question.
    keep = ("saturated=keep", "overwrite=true")
    kept = classified(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none", *keep)
    assert not kept["grid_reused"] and kept["valid_pixels"] == SIZE[0] * SIZE[1]
    assert tags(tmp_path / "out")["SATURATED"] == "kept as valid pixels"
    error = refused(caplog, tmp_path / "other", f"tile_folder={product}", "saturated=maybe")
    assert error == "saturated=maybe: takes mask, keep"


@pytest.mark.parametrize("evidence", ["B10", "folder", "files", "item", "item's name", "xml"])
def test_l1c_in_plain_folders_is_warned_about_and_tagged(
    evidence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bands = [*TEN, "B10"] if evidence == "B10" else TEN
    name = "S2A_MSIL1C_20181229T095411_N0207_R079_T33UUP_20181229T112231" if evidence == "folder" else "tile"
    pattern = "L1C_T33UUP_20181229T095411_{band}.jp2" if evidence == "files" else "{band}.tif"
    product = write_folder(tmp_path / name, pattern=pattern, arrays=random_arrays(SIZE, bands=bands))
    if evidence.startswith("item"):
        item = stac_item("02.07", **({"s2:product_type": "S2MSI1C"} if evidence == "item" else {}))
        (product / "item.json").write_text(
            json.dumps(item | ({"id": "S2A_MSIL1C_20181229T095411"} if evidence != "item" else {}))
        )
    if evidence == "xml":
        safe = write_safe(tmp_path / "other", level="L1C", offset=None, baseline="0207", name="x")
        shutil.copy(safe / "MTD_MSIL1C.xml", product)
    record = classified(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    assert record["warnings"] == ["L1C (top of atmosphere): the models were trained on L2A, so expect a worse map"]
    assert tags(tmp_path / "out")["INPUT_LEVEL"].startswith("L1C, top of atmosphere")


def test_l1c_in_a_safe_is_tagged_and_l2a_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for level in ("L1C", "L2A"):
        safe = write_safe(tmp_path / level, level=level, size=SIZE, arrays=random_arrays(SIZE), offset=-1000)
        classified(caplog, tmp_path / f"out-{level}", f"tile_folder={safe}")
        assert ("INPUT_LEVEL" in tags(tmp_path / f"out-{level}")) == (level == "L1C")


def test_degrees_and_swapped_axes_of_a_region_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    product = write_folder(tmp_path / "x", arrays=random_arrays(SIZE))
    west, south, east, north = transform_bounds(
        CRS, "EPSG:4326", ORIGIN[0], ORIGIN[1] - 1300, ORIGIN[0] + 1400, ORIGIN[1]
    )
    right = f"region.bbox=[{west},{south},{east},{north}]"
    swapped = f"region.bbox=[{south},{west},{north},{east}]"
    asked = (f"tile_folder={product}", "offset=none")
    error = refused(caplog, tmp_path / "out", *asked, right)
    assert error.endswith("; it is in degrees, which need region.crs=EPSG:4326")
    ordered = f"longitude comes first, region.bbox=[{west:g},{south:g},{east:g},{north:g}]"
    assert refused(caplog, tmp_path / "out", *asked, swapped).endswith(
        f"; it is in degrees, which need region.crs=EPSG:4326, and {ordered}"
    )
    assert refused(caplog, tmp_path / "out", *asked, swapped, "region.crs=EPSG:4326").endswith(f"; {ordered}")
    elsewhere = refused(caplog, tmp_path / "out", *asked, "region.bbox=[100,10,101,11]", "region.crs=EPSG:4326")
    assert "longitude comes first" not in elsewhere
    elsewhere = refused(caplog, tmp_path / "out", *asked, "region.bbox=[100,10,101,11]")
    assert elsewhere.endswith("; if it is in degrees, it needs region.crs=EPSG:4326")
    assert main([*NULL, f"output_folder={tmp_path / 'out'}", *asked, right, "region.crs=EPSG:4326"]) == 0


def test_band_names_of_one_digit_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    product = write_folder(tmp_path / "x", arrays=random_arrays(SIZE))
    for file in list(product.glob("B0*.tif")):
        file.rename(product / file.name.replace("B0", "T33_B"))
    error = refused(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    assert "lacks the bands B02" in error and error.endswith("; T33_B2.tif should be named T33_B02.tif")
    for file in list(product.glob("B*.tif")):
        file.unlink()
    error = refused(caplog, tmp_path / "out", f"tile_folder={product}", "offset=none")
    assert "holds no Sentinel-2 bands" in error and error.endswith("; T33_B2.tif should be named T33_B02.tif")


def test_a_sidecar_beside_a_band_is_named_as_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = dark()
    product = write_folder(tmp_path / "x", arrays=arrays)
    sidecar = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
    (product / "B03.tif.aux.xml").write_text(sidecar)
    for count, given in enumerate((product, zip_product(product))):
        record = classified(caplog, tmp_path / f"out{count}", f"tile_folder={given}", "offset=none")
        assert record["warnings"] == [
            "not read: B03.tif.aux.xml (nodata values and scales in such files are not applied)"
        ]
        assert record["valid_pixels"] == SIZE[0] * SIZE[1]
        assert (upsample(arrays["B03"], SIZE) == 7).any()


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("S1A_IW_GRDH_1SDV_20200223T170730_20200223T170755_031366_039C2A_1234.SAFE", "measurement/s1a-iw-grd-vv.tiff"),
        ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48_VV.tif"),
        ("radar", "VH.tif"),
    ],
)
def test_sentinel_1_is_called_what_it_is(
    folder: str, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "in" / folder / file
    write_band(path, np.ones((120, 120), np.uint16), 10)
    for asked in (f"tile_folder={tmp_path / 'in' / folder}", f"input_dir={tmp_path / 'in' / folder}"):
        error = refused(caplog, tmp_path / "out", asked)
        assert (
            "holds Sentinel-1 data, which is radar (" in error and "models of Sentinel-2 bands cannot take it" in error
        )
    if folder != "radar":
        assert "holds Sentinel-1 data" in refused(caplog, tmp_path / "out", f"input_dir={tmp_path / 'in'}")
