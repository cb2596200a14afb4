"""Writes a made-up landscape as a Sentinel-2 L2A product, a real .SAFE, with its truth raster beside it."""

import hashlib
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

from benexp.core.classes import NODATA
from benexp.core.errors import BenexpError
from benexp.core.files import PARTIAL, replacing
from benexp.demo.landscape import make_landscape
from benexp.demo.scenery import BANDS, BANDS_10M, OFFSET, strips

TILE = "31UFS"
CRS = "EPSG:32631"
WEST, NORTH = 600000, 5700000
LARGEST = 10980
"""Pixels a side of a real tile."""
LAST_SEED = 60_000_000

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands in the order of the metadata's `band_id`."""


def product_name(size: int, seed: int) -> str:
    """A name like the archive's, of which no other size or seed has the same: its times are made of them."""
    sensed = datetime(2023, 6, 15, 10, 30) + timedelta(seconds=seed)
    made = sensed + timedelta(days=1, seconds=size)
    return f"S2A_MSIL2A_{sensed:%Y%m%dT%H%M%S}_N0509_R051_T{TILE}_{made:%Y%m%dT%H%M%S}"


def write_product(folder: Path, size: int = 1200, seed: int = 7) -> tuple[Path, Path]:
    """Write the product of `size` x `size` pixels below `folder`, unless it is there; the .SAFE and the truth raster.

    The truth holds class ids, uint8, 255 where the product has no data. The same size and seed give the same bytes.
    Raises BenexpError where the size is odd, smaller than 120 or larger than 10980, or the seed is out of range.
    """
    if not 120 <= size <= LARGEST or size % 2:
        raise BenexpError(f"demo.size={size}: takes an even number from 120 to {LARGEST}")
    if not 0 <= seed <= LAST_SEED:
        raise BenexpError(f"demo.seed={seed}: takes 0 to {LAST_SEED}")
    name = product_name(size, seed)
    safe, truth_path = folder / f"{name}.SAFE", folder / f"{name}_truth.tif"
    if safe.exists() and truth_path.exists():
        return safe, truth_path

    truth = np.empty((size, size), np.uint8)
    bands = {band: np.empty((size, size) if band in BANDS_10M else (size // 2, size // 2), np.uint16) for band in BANDS}
    scene_classes = np.empty((size // 2, size // 2), np.uint8)
    for strip in strips(make_landscape(size, seed)):
        _put(truth, strip.truth, strip.first)
        _put(scene_classes, strip.scl, strip.first // 2)
        for band, values in strip.bands.items():
            _put(bands[band], values, strip.first if band in BANDS_10M else strip.first // 2)

    folder.mkdir(parents=True, exist_ok=True)
    # The dot keeps it from being taken for a product while it is incomplete.
    unfinished = folder / f".{name}{PARTIAL}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_safe(unfinished, name, {**bands, "SCL": scene_classes})
        with replacing(truth_path) as temporary:
            _write_raster(temporary, truth, 10, driver="GTiff", compress="deflate", tiled=True, nodata=NODATA)
        shutil.rmtree(safe, ignore_errors=True)
        unfinished.rename(safe)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return safe, truth_path


def _put(target: npt.NDArray[np.generic], rows: npt.NDArray[np.generic], first: int) -> None:
    target[first : first + len(rows)] = rows


def _write_safe(safe: Path, name: str, bands: Mapping[str, npt.NDArray[np.generic]]) -> None:
    sensed = name.split("_")[2]
    images = safe / "GRANULE" / f"L2A_T{TILE}_A000000_{sensed}" / "IMG_DATA"
    for band, values in bands.items():
        resolution = 10 if band in BANDS_10M else 20
        path = images / f"R{resolution}m" / f"T{TILE}_{sensed}_{band}_{resolution}m.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        block = min(1024 if resolution == 10 else 640, max(64, values.shape[0]))
        _write_raster(
            path, values, resolution,
            driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", blockxsize=block, blockysize=block,
        )  # fmt: skip
    (safe / "MTD_MSIL2A.xml").write_text(_metadata(name), encoding="utf-8")
    (safe / "manifest.safe").write_text(_manifest(safe), encoding="utf-8")


def _write_raster(path: Path, values: npt.NDArray[np.generic], resolution: int, **profile: object) -> None:
    height, width = values.shape
    transform = Affine(resolution, 0, WEST, 0, -resolution, NORTH)
    with rasterio.open(
        path, "w", count=1, height=height, width=width, dtype=values.dtype.name, crs=CRS, transform=transform, **profile
    ) as raster:
        raster.write(values, 1)


def _metadata(name: str) -> str:
    """The part of a product's MTD_MSIL2A.xml that says what its numbers mean."""
    offsets = "\n".join(
        f'        <BOA_ADD_OFFSET band_id="{i}">{-OFFSET}</BOA_ADD_OFFSET>' for i in range(len(BAND_IDS))
    )
    sensed = datetime.strptime(name.split("_")[2], "%Y%m%dT%H%M%S")
    return f"""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{sensed:%Y-%m-%dT%H:%M:%S}.000Z</PRODUCT_START_TIME>
      <PRODUCT_URI>{name}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE>
      <PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
      <Datatake>
        <SPACECRAFT_NAME>none: made up by benexp</SPACECRAFT_NAME>
      </Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      <BOA_ADD_OFFSET_VALUES_LIST>
{offsets}
      </BOA_ADD_OFFSET_VALUES_LIST>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-2A_User_Product>
"""


def _manifest(safe: Path) -> str:
    """A manifest.safe with the checksum of every file."""
    objects = []
    for number, path in enumerate(sorted(p for p in safe.rglob("*") if p.is_file())):
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha3_256").hexdigest()
        objects.append(f"""\
    <dataObject ID="file_{number:02}">
      <byteStream mimeType="application/octet-stream" size="{path.stat().st_size}">
        <fileLocation locatorType="URL" href="./{path.relative_to(safe).as_posix()}"/>
        <checksum checksumName="SHA3-256">{checksum}</checksum>
      </byteStream>
    </dataObject>
""")
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1">
  <dataObjectSection>
{"".join(objects)}  </dataObjectSection>
</xfdu:XFDU>
"""
