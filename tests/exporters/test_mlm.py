"""The STAC item beside an artefact: its content, and what the schemas say of it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
from jsonschema import ValidationError

from benexp.core.classes import NAMES
from benexp.models.spec import ModelSpec
from exporters.mlm import write_item
from tests.stac_schemas import SCHEMAS, validate_core, validate_extensions

REPORT = {"precision": "fp32", "patches": 50, "max_abs_diff": 1e-6, "passed": True, "kinds": {"zero": {"patches": 1}}}
PUBLISHED = {"weights": "hub", "source": "BIFOLD-BigEarthNetv2-0/resnet50-s2-v0.2.0", "revision": "0123abc"}


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "resnet50-s2-v0.2.0-fp32.onnx"
    path.write_bytes(b"graph")
    path.with_suffix(".parity.json").write_text("{}")
    return path


def item_of(spec: ModelSpec, artefact: Path, batch: int | None = None) -> dict[str, Any]:
    path = write_item(spec, artefact, "fp32", batch, REPORT)
    assert path == artefact.with_suffix(".stac.json")
    item: dict[str, Any] = json.loads(path.read_text())
    return item


def test_item_says_what_goes_in_and_comes_out(small_model: ModelSpec, artefact: Path) -> None:
    properties = item_of(small_model, artefact)["properties"]
    (taken,), (given,) = properties["mlm:input"], properties["mlm:output"]
    assert taken["bands"] == list(small_model.bands) == [band["name"] for band in properties["bands"]]
    assert taken["input"]["shape"] == [-1, 10, 120, 120]
    # The file normalises by itself: a client must not do it, too, but may read by what.
    assert taken["value_scaling"] is None
    assert properties["bands"][0]["eo:common_name"] == "blue"
    assert properties["bands"][0]["statistics"] == {"mean": small_model.means[0], "stddev": small_model.stds[0]}
    assert given["result"]["shape"] == [-1, 19]
    assert [(c["value"], c["title"]) for c in given["classification:classes"]] == list(enumerate(NAMES))
    assert given["classification:classes"][18]["color_hint"] == "ff0000"
    assert properties["benexp:parity"]["max_abs_diff"] == 1e-6


def test_a_fixed_batch_is_in_the_shapes(small_model: ModelSpec, artefact: Path) -> None:
    properties = item_of(small_model, artefact, batch=8)["properties"]
    assert properties["mlm:input"][0]["input"]["shape"][0] == 8
    assert properties["mlm:output"][0]["result"]["shape"][0] == 8


def test_assets_are_the_files_beside_it(small_model: ModelSpec, artefact: Path) -> None:
    assets = item_of(small_model, artefact)["assets"]
    assert assets["model"]["href"] == f"./{artefact.name}"
    assert assets["model"]["file:size"] == 5
    assert assets["model"]["file:checksum"] == "1220" + hashlib.sha256(b"graph").hexdigest()
    assert assets["model"]["mlm:artifact_type"] == "onnx"
    assert set(assets) == {"model", "parity"}
    xml = artefact.with_suffix(".xml")
    xml.write_text("<net/>")
    xml.with_suffix(".bin").write_bytes(b"weights")
    assets = item_of(small_model, xml)["assets"]
    assert assets["model"]["roles"] == ["mlm:model"]
    assert assets["weights"]["href"].endswith("-fp32.bin")


def test_only_published_weights_claim_bigearthnet_s_place_and_time(small_model: ModelSpec, artefact: Path) -> None:
    random = item_of(small_model, artefact)
    assert random["geometry"] is None
    assert "bbox" not in random
    assert random["properties"]["mlm:pretrained"] is False
    assert random["properties"]["mlm:pretrained_source"] is None

    published = item_of(replace(small_model, trained=True, **PUBLISHED), artefact)  # type: ignore[arg-type]
    assert published["bbox"] == [-10.6, 36.9, 31.6, 70.1]
    assert published["properties"]["start_datetime"] == "2017-06-01T00:00:00Z"
    assert published["properties"]["mlm:pretrained_source"] == "BigEarthNet v2.0"
    assert published["properties"]["license"] == "MIT"
    assert published["links"][0]["href"].endswith("/resnet50-s2-v0.2.0/tree/0123abc")

    own = item_of(replace(small_model, trained=True, weights="folder", source="mine"), artefact)
    assert own["geometry"] is None
    assert own["properties"]["mlm:pretrained"] is True
    assert not {"license", "mlm:pretrained_source"} & set(own["properties"])


@pytest.mark.parametrize("name", ["x", "Ünï çode", "2 much", "a/b_"])
def test_odd_names_become_allowed_ones(name: str, small_model: ModelSpec, artefact: Path) -> None:
    import re

    said = item_of(replace(small_model, name=name), artefact)["properties"]["mlm:name"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", said)


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the shared schemas are not here")
@pytest.mark.parametrize("kind", ["published", "random", "exported", "engine"])
def test_item_is_valid(kind: str, small_model: ModelSpec, artefact: Path) -> None:
    spec = {
        "published": replace(small_model, trained=True, **PUBLISHED),  # type: ignore[arg-type]
        "random": small_model,
        "exported": replace(small_model, weights="onnx", source="a.onnx, exported from b", revision="0123abc"),
        "engine": small_model,
    }[kind]
    if kind == "engine":
        artefact = artefact.rename(artefact.with_suffix(".engine"))
    item = item_of(spec, artefact, batch=4 if kind == "engine" else None)

    assert validate_extensions(item) == {"mlm", "classification", "eo"}
    del item["properties"]["mlm:input"][0]["input"]["shape"]
    with pytest.raises(ValidationError):
        validate_extensions(item)


def test_item_is_core_stac(small_model: ModelSpec, artefact: Path) -> None:
    content = item_of(small_model, artefact)
    validate_core(content)
    content["properties"]["title"] = 7
    with pytest.raises(pystac.STACValidationError):
        validate_core(content)
