"""Writes small Sentinel-2 products for tests: .SAFE folders (L2A, L1C), flat folders, BigEarthNet patches, zips."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The bands of the s2 models."""
RESOLUTIONS = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(
    ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20
)
BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
ORIGIN = (600000.0, 5300040.0)
"""West and north of everything written here, in metres."""
CRS = "EPSG:32633"

Arrays = Mapping[str, npt.NDArray[np.uint16]]


def random_arrays(
    size: tuple[int, int] = (240, 300), bands: Sequence[str] = TEN, seed: int = 0
) -> dict[str, npt.NDArray[np.uint16]]:
    """Random DN from 1 to 4999, a band each, at native size for a tile of `size` (rows, columns) at 10 m; no nodata."""
    rng = np.random.default_rng(seed)
    shapes = {band: [-(-n * 10 // RESOLUTIONS.get(band, 60)) for n in size] for band in bands}
    return {band: rng.integers(1, 5000, shape, dtype=np.uint16) for band, shape in shapes.items()}


def upsample(array: npt.NDArray[np.uint16], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """The band on the 10 m grid of `size`, by nearest: what Tile.read gives for an aligned band of offset 0."""
    factor = -(-size[0] // array.shape[0])
    return array.repeat(factor, 0).repeat(factor, 1)[: size[0], : size[1]]


def write_band(
    path: Path,
    array: npt.NDArray[np.generic],
    resolution: int,
    *,
    block: int | None = 64,
    origin: tuple[float, float] = ORIGIN,
    crs: str | None = CRS,
    **profile: object,
) -> Path:
    """One raster, JPEG2000 (lossless) or GeoTIFF by the suffix; `block` None is GDAL's default: strips in a GeoTIFF."""
    jpeg = path.suffix.lower() == ".jp2"
    options: dict[str, object] = (
        {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"} if jpeg else {"driver": "GTiff"}
    )
    if block:
        options |= {"blockxsize": block, "blockysize": block} | ({} if jpeg else {"tiled": True})
    options |= {
        "count": 1,
        "height": array.shape[0],
        "width": array.shape[1],
        "dtype": array.dtype.name,
        "crs": crs,
        "transform": Affine(resolution, 0, origin[0], 0, -resolution, origin[1]),
    } | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **options) as file:
        file.write(array, 1)
    return path


def write_safe(
    folder: Path,
    *,
    level: str = "L2A",
    arrays: Arrays | None = None,
    size: tuple[int, int] = (240, 300),
    seed: int = 0,
    scl: npt.NDArray[np.uint8] | None = None,
    offset: int | None = -1000,
    quantification: int = 10000,
    baseline: str = "0509",
    block: int | None = 64,
    manifest: str | None = None,
    name: str | None = None,
    xml: bool = True,
) -> Path:
    """A .SAFE below `folder` in today's layout, with JP2 bands, an MTD XML and, as asked, a manifest.safe.

    `arrays` are raw DN at native size (default: random_arrays); `scl` is written at 20 m (L2A); `offset` None leaves
    the list of offsets out of the XML; `manifest` names the checksums' algorithm (MD5 or SHA3-256).
    """
    arrays = random_arrays(size, seed=seed) if arrays is None else arrays
    name = name or f"S2A_MSI{level}_20230625T234621_N{baseline}_R073_T33UUP_20230626T022158"
    safe = folder / f"{name}.SAFE"
    images = safe / "GRANULE" / f"{level}_T33UUP_A041826_20230625T234624" / "IMG_DATA"
    layers: dict[str, npt.NDArray[np.generic]] = dict(arrays) | ({} if scl is None else {"SCL": scl})
    for band, array in layers.items():
        resolution = RESOLUTIONS.get(band, 60)
        stem = f"T33UUP_20230625T234621_{band}"
        path = images / (f"{stem}.jp2" if level == "L1C" else f"R{resolution}m/{stem}_{resolution}m.jp2")
        write_band(path, array, resolution, block=block)
    if xml:
        (safe / f"MTD_MSI{level}.xml").write_text(mtd_xml(level, name, baseline, offset, quantification))
    if manifest:
        write_manifest(safe, manifest)
    return safe


def mtd_xml(level: str, name: str, baseline: str, offset: int | None, quantification: int) -> str:
    """The part of a product's MTD_MSIL2A.xml or MTD_MSIL1C.xml that benexp reads."""
    kind, tag = ("BOA", "BOA_QUANTIFICATION_VALUE") if level == "L2A" else ("RADIO", "QUANTIFICATION_VALUE")
    values = f'<{tag} unit="none">{quantification}</{tag}>'
    if level == "L2A":
        values = f"<QUANTIFICATION_VALUES_LIST>{values}</QUANTIFICATION_VALUES_LIST>"
    if offset is not None:
        items = "".join(f'<{kind}_ADD_OFFSET band_id="{i}">{offset}</{kind}_ADD_OFFSET>' for i in range(len(BAND_IDS)))
        lists = "BOA_ADD_OFFSET_VALUES_LIST" if level == "L2A" else "Radiometric_Offset_List"
        values += f"<{lists}>{items}</{lists}>"
    root = f"Level-{level[1:]}_User_Product"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<n1:{root} xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/{root}.xsd">'
        f"<n1:General_Info><Product_Info><PRODUCT_URI>{name}.SAFE</PRODUCT_URI>"
        f"<PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}</PROCESSING_BASELINE></Product_Info>"
        f"<Product_Image_Characteristics>{values}</Product_Image_Characteristics></n1:General_Info></n1:{root}>\n"
    )


def write_manifest(safe: Path, algorithm: str = "MD5") -> Path:
    """A manifest.safe that lists every file of the folder with its checksum."""
    objects = []
    for file in sorted(path for path in safe.rglob("*") if path.is_file() and path.name != "manifest.safe"):
        digest = hashlib.new({"MD5": "md5", "SHA3-256": "sha3_256"}[algorithm], file.read_bytes()).hexdigest()
        objects.append(
            f'<dataObject ID="{file.stem}">'
            f'<byteStream mimeType="application/octet-stream" size="{file.stat().st_size}">'
            f'<fileLocation locatorType="URL" href="./{file.relative_to(safe).as_posix()}"/>'
            f'<checksum checksumName="{algorithm}">{digest}</checksum></byteStream></dataObject>'
        )
    manifest = safe / "manifest.safe"
    manifest.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1">'
        f"<dataObjectSection>{''.join(objects)}</dataObjectSection></xfdu:XFDU>\n"
    )
    return manifest


def write_folder(
    folder: Path,
    *,
    pattern: str = "{band}.tif",
    arrays: Arrays | None = None,
    size: tuple[int, int] = (240, 300),
    seed: int = 0,
    scl: npt.NDArray[np.uint8] | None = None,
    block: int | None = 64,
    origins: Mapping[str, tuple[float, float]] | None = None,
    crs: Mapping[str, str | None] | None = None,
    **profile: object,
) -> Path:
    """A flat folder of files named by `pattern` (of `band`, `resolution`); `origins` and `crs` misplace bands."""
    arrays = random_arrays(size, seed=seed) if arrays is None else arrays
    layers: dict[str, npt.NDArray[np.generic]] = dict(arrays) | ({} if scl is None else {"SCL": scl})
    for band, array in layers.items():
        resolution = RESOLUTIONS.get(band, 60)
        write_band(
            folder / pattern.format(band=band, resolution=resolution),
            array,
            resolution,
            block=block,
            origin=(origins or {}).get(band, ORIGIN),
            crs=(crs or {}).get(band, CRS),
            **profile,
        )
    return folder


def write_patch(
    folder: Path,
    *,
    name: str = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43",
    suffix: str = ".tif",
    arrays: Arrays | None = None,
    seed: int = 0,
) -> Path:
    """A BigEarthNet patch folder below `folder`: 120 x 120 at 10 m, in strips."""
    arrays = random_arrays((120, 120), seed=seed) if arrays is None else arrays
    return write_folder(folder / name, pattern=name + "_{band}" + suffix, arrays=arrays, block=None)


def zip_product(product: Path, target: Path | None = None, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """The product's folder zipped as the archives do it: `<name>.zip` holds `<name>.SAFE/...`."""
    target = target or product.with_suffix(".zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(path for path in product.rglob("*") if path.is_file()):
            archive.write(file, f"{product.name}/{file.relative_to(product).as_posix()}")
    return target


COMMON_NAMES = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")
"""The keys of Earth Search's assets of TEN."""


def stac_item(
    baseline: str | None, offset: float | None = None, place: str = "raster:bands", **properties: object
) -> dict[str, Any]:
    """A STAC item of the bands TEN, with an `offset` of reflectance at one of the places where catalogues have it."""
    band = {"scale": 0.0001, "offset": offset}
    facts: dict[str, Any] = {
        "raster:bands": {"raster:bands": [band]},
        "bands": {"bands": [{f"raster:{key}": value for key, value in band.items()}]},
        "raster:offset": {f"raster:{key}": value for key, value in band.items()},
    }[place]
    assets = {
        key: {"href": f"./{name}.tif"} | ({} if offset is None else facts)
        for key, name in zip(COMMON_NAMES, TEN, strict=True)
    }
    dated = {"datetime": "2023-06-25T23:46:21.024Z"} | ({"s2:processing_baseline": baseline} if baseline else {})
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "item",
        "properties": dated | properties,
        "assets": assets,
    }
