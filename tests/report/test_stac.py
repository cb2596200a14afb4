"""The STAC item of a tile: its content, and what the schemas say of it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
from jsonschema import ValidationError
from rasterio.crs import CRS

from benexp.core.classes import NAMES
from benexp.models.spec import ModelSpec
from benexp.report.stac import item_name
from tests.report.made_up_items import SENSED, TILE, write_tile
from tests.stac_schemas import SCHEMAS, validate_core, validate_extensions

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path, small_model: ModelSpec) -> Write:
    def written(spec: ModelSpec = small_model, **more: Any) -> dict[str, Any]:
        return write_tile(tmp_path, spec, **more)

    return written


def test_item_says_where_when_and_how(write: Write) -> None:
    item = write()
    properties = item["properties"]
    assert item["id"] == TILE and properties["datetime"] == SENSED and properties["platform"] == "sentinel-2a"
    west, south, east, north = item["bbox"]
    assert (west, north) == pytest.approx((4.437, 51.442), abs=2e-3)
    assert (east - west, north - south) == pytest.approx((0.0073, 0.0064), abs=3e-4)
    assert properties["proj:code"] == "EPSG:32631" and properties["proj:shape"] == [70, 50]
    assert properties["proj:bbox"] == [600000, 5699300, 600500, 5700000]
    assert properties["processing:level"] == "L4" and properties["processing:software"]["onnxruntime"] == "1.31.1"
    assert properties["benexp:parameters"]["stride"] == 60
    assert "RANDOM WEIGHTS" in properties["processing:lineage"]


def test_item_states_how_large_an_answer_is_and_what_has_no_class(write: Write) -> None:
    properties = write()["properties"]
    assert (properties["gsd"], properties["benexp:answer_size"], properties["benexp:answer_spacing"]) == (10, 1200, 600)
    counts = {"all": 30000, "valid": 29000, "classified": 28000, "not_valid": 1000, "too_few_valid_around": 1000}
    assert properties["benexp:pixels"] == counts


def test_the_source_is_attributed_unless_it_is_simulated(write: Write) -> None:
    item = write()
    assert item["properties"]["description"].endswith(" Contains modified Copernicus Sentinel data 2023.")
    assert item["properties"]["license"] == "other"
    (terms,) = (link for link in item["links"] if link["rel"] == "license")
    assert terms["href"].startswith("https://sentinels.copernicus.eu/")
    item = write(simulated=True, attribution="Made of simulated data")
    assert "Copernicus" not in str(item) and not {"license", "platform", "constellation"} & set(item["properties"])
    assert not [link for link in item["links"] if link["rel"] == "license"]


def test_the_preview_is_the_thumbnail(write: Write) -> None:
    assert write()["assets"]["preview.png"]["roles"] == ["thumbnail", "overview"]


def test_assets_are_the_files_beside_it(write: Write, tmp_path: Path) -> None:
    item = write()
    for name in ("class", "entropy", "probs", "multilabel", "class.qml", "class.tif.aux.xml", "areas.csv"):
        assert name in item["assets"]
    assets = pystac.Item.from_dict(item).assets
    files = {asset.href for asset in assets.values() if "mlm:model" not in (asset.roles or ())}
    assert all(href.startswith("./") and "<" not in href and " " not in href for href in files)
    classes = item["assets"]["class"]
    content = (tmp_path / TILE / f"{TILE}_class.tif").read_bytes()
    assert classes["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert [(c["value"], c["title"]) for c in classes["classification:classes"][:19]] == list(enumerate(NAMES))
    assert classes["classification:classes"][18]["color_hint"] == "ff0000"
    (band,) = classes["bands"]
    assert band["nodata"] == 255 and band["data_type"] == "uint8" and band["statistics"]["mean"] == 3
    assert item["assets"]["entropy"]["bands"][0]["nodata"] == "nan"
    assert [b["name"] for b in item["assets"]["probs"]["bands"]] == list(NAMES)
    assert item["assets"]["probs"]["bands"][0]["raster:scale"] == 0.0001
    assert [b["offset"] for b in item["assets"]["multilabel"]["classification:bitfields"]] == list(range(19))


def published(spec: ModelSpec) -> ModelSpec:
    return replace(spec, weights="hub", source="a/b", revision="0123abc")


def test_a_published_model_is_an_asset_and_others_are_facts(write: Write, small_model: ModelSpec) -> None:
    item = write(spec=published(small_model))
    assert item["assets"]["model.safetensors"]["href"] == (
        "https://huggingface.co/a/b/resolve/0123abc/model.safetensors"
    )
    assert item["properties"]["mlm:framework"] == "ONNX" and item["properties"]["bands"][0]["eo:common_name"] == "blue"
    item = write()
    assert not [name for name, asset in item["assets"].items() if not asset["href"].startswith("./")]
    assert not [key for key in item["properties"] if key.startswith(("mlm:", "bands"))]
    assert "eo:" not in str(item["properties"])
    assert item["properties"]["benexp:weights_sha256"] == small_model.weights_hash


def test_same_input_same_bytes(write: Write, tmp_path: Path) -> None:
    path = tmp_path / TILE / item_name(TILE)
    write()
    first = path.read_bytes()
    write(seconds=3.5, stage_seconds={"read": 1}, peak_memory_bytes=7, command="benexp elsewhere")
    assert path.read_bytes() == first


def test_over_the_antimeridian(write: Write) -> None:
    item = write(crs="EPSG:32601", transform=[10, 0, 300000, 0, -10, 7400000], shape=[10980, 10980])
    assert item["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert 170 < west < 180 and -180 < east < -170


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the shared schemas are not here")
@pytest.mark.parametrize("kind", ["plain", "no time, no code", "random backend", "onnx", "alone", "published"])
def test_item_is_valid(kind: str, write: Write, small_model: ModelSpec) -> None:
    wkt = CRS.from_proj4("+proj=tmerc +lat_0=51 +lon_0=4.5 +k=1 +x_0=600000 +y_0=5700000 +ellps=GRS80").to_wkt()
    item = {
        "plain": lambda: write(),
        "no time, no code": lambda: write(sensed=None, crs=wkt),
        "random backend": lambda: write(backend={"precision": "fp32"}),
        "onnx": lambda: write(spec=replace(small_model, weights="onnx"), tile="run"),
        "alone": lambda: write(up=False),
        "published": lambda: write(spec=published(small_model)),
    }[kind]()
    validate_core(item)
    of_models = {"mlm", "eo"} if kind == "published" else set()
    assert validate_extensions(item) == {"projection", "raster", "classification", "processing"} | of_models
    item["assets"]["class"]["classification:classes"][0]["color_hint"] = "red"
    with pytest.raises(ValidationError):
        validate_extensions(item)
