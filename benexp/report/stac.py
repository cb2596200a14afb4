"""<tile>.json, the STAC item of a tile's results.

Plain JSON, as beside an exported model; the tests hold it against pystac and the extensions' schemas.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from benexp.core.files import replacing
from benexp.models.published import WEIGHTS, sha256
from benexp.models.spec import ModelSpec
from benexp.records.names import RUN
from benexp.records.run import RunRecord
from benexp.version import __version__
from exporters.mlm import classes_of, model_fields, model_links, origin_fields

COLLECTION = "collection.json"
STAC = "1.1.0"
_BASE = "https://stac-extensions.github.io"
PROJECTION = f"{_BASE}/projection/v2.0.0/schema.json"
CLASSIFICATION = f"{_BASE}/classification/v1.1.0/schema.json"
EXTENSIONS = [
    PROJECTION,
    f"{_BASE}/raster/v2.0.0/schema.json",
    CLASSIFICATION,
    f"{_BASE}/processing/v1.2.0/schema.json",
    f"{_BASE}/file/v2.1.0/schema.json",
]
MODEL_EXTENSIONS = [f"{_BASE}/mlm/v1.5.2/schema.json", f"{_BASE}/eo/v2.0.0/schema.json"]
"""The extensions of items that link to their model: the first requires an asset for it, the second names its bands."""
GEOJSON, JSON, XML = "application/geo+json", "application/json", "application/xml"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
FRAMEWORKS = {"onnxruntime": "ONNX", "openvino": "OpenVINO", "tensorrt": "TensorRT", "torch": "PyTorch"}
"""The framework's name by the engine's."""

FIRST, LAST = "2015-06-23T00:00:00Z", "9999-12-31T23:59:59Z"
"""Between these an image of Sentinel-2 was taken, where nothing says when: the launch of the first, and no end."""

TERMS = {
    "rel": "license",
    "href": "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    "type": "application/pdf",
    "title": "Terms of Copernicus Sentinel data",
}

_EDGE_POINTS = 9
# Straight edges of a tile are curves in degrees: 200 m off a line between corners, 4 m between so many points.


def item_name(tile: str) -> str:
    """The item's file; a tile named `run` must not take the record's."""
    return f"{tile}_item.json" if tile == "run" else f"{tile}.json"


def write_item(
    path: Path,
    record: RunRecord,
    spec: ModelSpec,
    files: Sequence[Path],
    in_collection: bool,
) -> None:
    """Write the item about the run that `record` describes, whose results are `files`, GeoTIFFs among them.

    `in_collection` says that `collection.json` lies in the output folder above.
    What changes from run to run, such as times and the machine, does not enter: the same input gives the same bytes.
    """
    item = {
        "type": "Feature",
        "stac_version": STAC,
        "stac_extensions": [*EXTENSIONS, *(MODEL_EXTENSIONS if spec.weights == "hub" else [])],
        "id": record.folder.replace("/", "_"),
        **_place(record),
        "properties": _properties(record, spec),
        "links": [
            *([] if record.simulated else [TERMS]),
            *model_links(spec),
            *(_upwards(record.folder) if in_collection else []),
        ],
        "assets": {**_assets(record, spec, files), **_model(spec)},
        **({"collection": collection_id(record.config_hash)} if in_collection else {}),
    }
    write_json(path, item)


def collection_id(config_hash: str) -> str:
    """The same for all tiles that are classified in the same way."""
    return f"benexp-{config_hash[:12]}"


def _place(record: RunRecord) -> dict[str, Any]:
    """The tile's outline in degrees; in two parts where it crosses the antimeridian."""
    west, south, east, north = _bounds(record)
    steps = np.linspace(0, 1, _EDGE_POINTS)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    ring = [
        (x0 + (x1 - x0) * step, y0 + (y1 - y0) * step)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners)
        for step in steps[:-1]
    ]
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    geometry = transform_geom(CRS.from_user_input(record.crs), "EPSG:4326", outline, precision=7)
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    boxes = [(*np.min(part[0], axis=0).tolist(), *np.max(part[0], axis=0).tolist()) for part in parts]
    # RFC 7946: a box over the antimeridian begins in the east and ends in the west.
    eastern = [box for box in boxes if box[0] >= 0] or boxes
    western = [box for box in boxes if box[0] < 0] or boxes
    crosses = len(boxes) > 1
    box = [
        min(b[0] for b in (eastern if crosses else boxes)),
        min(b[1] for b in boxes),
        max(b[2] for b in (western if crosses else boxes)),
        max(b[3] for b in boxes),
    ]
    return {"geometry": geometry, "bbox": box}


def _bounds(record: RunRecord) -> tuple[float, float, float, float]:
    """West, south, east, north in the tile's CRS."""
    (height, width), (a, _, west, _, e, north) = record.shape, record.transform
    return west, north + e * height, west + a * width, north


def _properties(record: RunRecord, spec: ModelSpec) -> dict[str, Any]:
    backend, chunking, sensed = record.backend, record.config["chunking"], record.sensed
    engine, _, version = str(backend.get("engine", "none")).partition(" ")
    crs = CRS.from_user_input(record.crs)
    code = crs.to_authority()
    return {
        "title": f"Land cover of {record.title}",
        "description": f"{_lineage(record, spec)} {record.attribution}.",
        **({} if record.simulated else {"license": "other"}),
        **({"datetime": sensed} if sensed else {"datetime": None, "start_datetime": FIRST, "end_datetime": LAST}),
        "gsd": 10,
        **({} if record.simulated else _platform(record.tile)),
        **({"proj:code": ":".join(code)} if code else {"proj:code": None, "proj:wkt2": crs.to_wkt()}),
        "proj:shape": record.shape,
        "proj:transform": record.transform,
        "proj:bbox": list(_bounds(record)),
        "processing:level": "L4",
        "processing:lineage": _lineage(record, spec),
        "processing:software": {"benexp": __version__, **({engine: version} if version else {})},
        **(_model_fields(spec, engine, version) if spec.weights == "hub" else origin_fields(spec)),
        "benexp:model": spec.name,
        "benexp:parameters": {
            **{key: chunking[key] for key in ("patch_size", "stride", "blend", "min_valid")},
            "precision": backend["precision"],
        },
        # In metres, beside `gsd`, which is that of the sensor.
        "benexp:answer_size": record.resolution.answer_size,
        "benexp:answer_spacing": record.resolution.answer_spacing,
        "benexp:pixels": asdict(record.pixels),
        "benexp:attribution": record.attribution,
        "benexp:map_hash": record.map_hash,
    }


def _model_fields(spec: ModelSpec, engine: str, version: str) -> dict[str, Any]:
    """The model in the words of the Machine Learning Model extension, and what ran it."""
    return {
        **model_fields(spec),
        **({"mlm:framework": FRAMEWORKS[engine]} if engine in FRAMEWORKS else {}),
        **({"mlm:framework_version": v[0]} if (v := re.match(r"\d+\.\d+\.\d+(?=$|\+)", version)) else {}),
    }


def _lineage(record: RunRecord, spec: ModelSpec) -> str:
    chunking = record.config["chunking"]
    words = (
        f"{spec.name} gave the probabilities of {len(spec.classes)} classes in patches of {chunking['patch_size']} "
        f"pixels, {chunking['stride']} pixels apart; a pixel's are a blend ({chunking['blend']}) of those over it."
    )
    return words if spec.trained else f"RANDOM WEIGHTS, for speed runs: not a land-cover map. {words}"


def _platform(tile: str) -> dict[str, Any]:
    """The satellite, where the product's name begins with it."""
    found = re.match(r"S2([A-D])_", tile)
    if not found:
        return {}
    return {"platform": f"sentinel-2{found[1].lower()}", "constellation": "sentinel-2", "instruments": ["msi"]}


def _model(spec: ModelSpec) -> dict[str, Any]:
    """The published checkpoint, if that is the model: nobody else can open a user's own files."""
    if spec.weights != "hub":
        return {}
    return {
        WEIGHTS: {
            "href": f"https://huggingface.co/{spec.source}/resolve/{spec.revision}/{WEIGHTS}",
            "title": f"The model: {spec.name}",
            "type": "application/octet-stream",
            "roles": ["mlm:model", "mlm:weights"],
            "mlm:artifact_type": "safetensors.torch.save_file",
            "bands": [{"name": band} for band in spec.bands],
        }
    }


def _assets(record: RunRecord, spec: ModelSpec, files: Sequence[Path]) -> dict[str, Any]:
    tile = record.tile
    assets = {}
    for path in [*files, Path(RUN)]:
        name = path.name.removeprefix(f"{tile}_")
        if path.suffix == ".tif":
            assets[name.removesuffix(".tif")] = _raster(path, name.removesuffix(".tif"), spec)
        else:
            # Whole file names: no layer can have one.
            title, media_type, roles = _small_file(name)
            assets[name] = {"href": _href(path), "title": title, "type": media_type, "roles": roles}
    return assets


def _small_file(name: str) -> tuple[str, str, list[str]]:
    """Title, media type and roles of a file by its name without the tile's."""
    layer = name.partition(".")[0]
    match name:
        case "areas.csv":
            return "Hectares per class, and of what has no class", "text/csv", ["data"]
        case "classmap.json":
            return "What the ids in the class raster mean", JSON, ["metadata"]
        case "preview.png":
            return "The tile and its map, with a legend", "image/png", ["thumbnail", "overview"]
        case "viewer.html":
            return "The tile and its map, in a page", "text/html", ["overview"]
        case "grid.npz":
            return "The model's answers, of which other layers can be rendered", "application/zip", ["data"]
        case "run.json":
            return "What was asked, what ran, how long it took", JSON, ["metadata"]
        case _ if name.endswith(".qml"):
            return f"Colours of {layer} for QGIS", XML, ["metadata", "style"]
        case _ if name.endswith(".aux.xml"):
            return f"Names of the values of {layer} for GDAL", XML, ["metadata"]
        case _:
            raise ValueError(f"{name}: a result without a place in the item")


def _raster(path: Path, layer: str, spec: ModelSpec) -> dict[str, Any]:
    with rasterio.open(path) as raster:
        bands = [_band(raster, number, layer) for number in raster.indexes]
        description = raster.tags()["DESCRIPTION"]
    return {
        "href": _href(path),
        "title": description,
        "type": COG,
        "roles": ["data"],
        "file:size": path.stat().st_size,
        "file:checksum": f"1220{sha256(path)}",  # as a multihash: its first two bytes say sha256 and 32 bytes
        **_classes(layer, spec),
        "bands": bands,
    }


def _band(raster: Any, number: int, layer: str) -> dict[str, Any]:
    nodata = raster.nodatavals[number - 1]
    tags = raster.tags(number)
    statistics = {
        name: float(tags[key])
        for name, key in (
            ("minimum", "STATISTICS_MINIMUM"),
            ("maximum", "STATISTICS_MAXIMUM"),
            ("mean", "STATISTICS_MEAN"),
            ("stddev", "STATISTICS_STDDEV"),
            ("valid_percent", "STATISTICS_VALID_PERCENT"),
        )
        if key in tags
    }
    scale = raster.scales[number - 1]
    return {
        "name": layer if raster.count == 1 else raster.descriptions[number - 1],
        "data_type": raster.dtypes[number - 1],
        "nodata": "nan" if np.isnan(nodata) else int(nodata) if float(nodata).is_integer() else nodata,
        **({"unit": "bit"} if layer == "entropy" else {}),
        **({"statistics": statistics} if statistics else {}),
        "raster:spatial_resolution": raster.transform.a,
        **({"raster:scale": scale, "raster:offset": 0} if scale != 1 else {}),
    }


def _classes(layer: str, spec: ModelSpec) -> dict[str, Any]:
    """The STAC fields that explain the values of a layer; empty if the values are quantities."""
    if layer == "class":
        nothing = {"value": 255, "name": "nodata", "title": "No data", "nodata": True}
        return {"classification:classes": [*classes_of(spec), nothing]}
    if layer == "multilabel":
        return {
            "classification:bitfields": [
                {
                    "offset": c["value"],
                    "length": 1,
                    "name": c["name"],
                    "description": f"{c['title']}: whether its probability is above its threshold",
                    "classes": [{"value": 0, "name": "no"}, {"value": 1, "name": "yes"}],
                }
                for c in classes_of(spec)
            ]
        }
    return {}


def _upwards(folder: str) -> list[dict[str, str]]:
    above = "../" * len(Path(folder).parts)
    return [{"rel": rel, "href": f"{above}{COLLECTION}", "type": JSON} for rel in ("root", "parent", "collection")]


def _href(path: Path) -> str:
    return f"./{quote(path.name)}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
