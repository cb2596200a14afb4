"""The facts by which a map is judged, in every result of a command: areas, resolution, time, model, source."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio

from benexp.cli.app import main
from benexp.demo.product import write_product
from benexp.models.resolve import DEMO_MODEL
from tests.products.builders import mtd_xml, random_arrays, stac_item, write_folder, write_safe, zip_product
from tests.stac_schemas import SCHEMAS, validate_core, validate_extensions

SIZE = (240, 300)
NULL = ("model=demo", "backend=null")
RESOLUTION = "one answer per 1.2 km patch, every 600 m"
COPERNICUS = "Contains modified Copernicus Sentinel data"


def classified(product: Path, out: Path, *arguments: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of the results of a command."""
    assert main([*NULL, f"tile_folder={product}", f"output_folder={out}", *arguments]) == 0
    (path,) = out.glob("*/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return path.parent, record


def item_of(folder: Path) -> dict[str, Any]:
    """The STAC item of a folder of results, which must be valid."""
    item: dict[str, Any] = json.loads((folder / f"{folder.name}.json").read_text())
    validate_core(item)
    if SCHEMAS.is_dir():
        validate_extensions(item)
    return item


def tags_of(folder: Path) -> list[dict[str, str]]:
    found = []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as raster:
            found.append(dict(raster.tags()))
    return found


def page_text(folder: Path) -> str:
    """The text of viewer.html, without scripts and styles."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", (folder / "viewer.html").read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.fixture
def patchy(tmp_path: Path) -> Path:
    """A product with data in the columns 0 to 39 and 160 to 299 of 300.

    At stride 120 patches begin at the columns 0, 120 and 180: a third of the first, two thirds of the second and all of
    the last has data.
    """
    arrays = random_arrays(SIZE)
    for array in arrays.values():
        step = array.shape[1] // 30
        array += 1000
        array[:, 4 * step : 16 * step] = 0
    return write_safe(tmp_path / "in", arrays=arrays, size=SIZE)


def test_areas_without_a_class_are_told_with_their_reason(
    patchy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, record = classified(patchy, tmp_path / "out", "chunking.stride=120")
    printed = capsys.readouterr()
    not_valid, too_few, mapped = 240 * 120, 240 * 40, 240 * 140
    assert record["pixels"] == {
        **{"all": 240 * 300, "valid": too_few + mapped, "classified": mapped},
        **{"not_valid": not_valid, "too_few_valid_around": too_few},
    }
    assert record["valid_pixels"] == too_few + mapped
    with rasterio.open(next(folder.glob("*_class.tif"))) as raster:
        assert (raster.read(1) != 255).sum() == mapped
    sentence = "336 of 720 ha classified; no class: 288 ha not valid, 96 ha too few valid pixels around"
    assert sentence in printed.out + printed.err
    shown = page_text(folder)
    assert "No class: not valid 2.88" in shown and "No class: too few valid pixels around 0.96" in shown
    assert "300 x 240: 43,200 valid, 33,600 classified" in shown
    # Less is asked of a patch: all that is valid has a class.
    _, record = classified(patchy, tmp_path / "all", "chunking.stride=120", "chunking.min_valid=0.3")
    assert (record["pixels"]["classified"], record["pixels"]["too_few_valid_around"]) == (too_few + mapped, 0)


def test_areas_are_one_table_for_programs(patchy: Path, tmp_path: Path) -> None:
    folder, _ = classified(patchy, tmp_path / "out", "chunking.stride=120")
    table = pd.read_csv(folder / "areas.csv")
    assert list(table.columns) == ["class_id", "class_name", "hectares", "share"]
    assert list(table.class_id) == [*range(19), 255, 255]
    assert list(table.class_name[19:]) == ["no class: not valid", "no class: too few valid pixels around"]
    assert list(table.hectares[19:]) == [288.0, 96.0] and table.share[19:].isna().all()
    # By the raster's values, which it can be joined with: all of it is there.
    by_value = table.groupby("class_id").hectares.sum()
    with rasterio.open(next(folder.glob("*_class.tif"))) as raster:
        values, counts = np.unique(raster.read(1), return_counts=True)
    assert {int(value): count / 100 for value, count in zip(values, counts, strict=True)} == {
        value: hectares for value, hectares in by_value.items() if hectares
    }
    assert table.share.sum() == pytest.approx(1)


def test_the_effective_resolution_is_stated_everywhere(safe: Path, tmp_path: Path) -> None:
    folder, record = classified(safe, tmp_path / "out")
    assert record["resolution"] == {"answer_size": 1200, "answer_spacing": 600}
    assert {tags["EFFECTIVE_RESOLUTION"] for tags in tags_of(folder)} == {RESOLUTION}
    shown = page_text(folder)
    assert f"Result: {RESOLUTION}" in shown and f"{RESOLUTION}; pixels of 10 m" in shown
    assert "full resolution" not in (folder / "viewer.html").read_text()
    properties = item_of(folder)["properties"]
    assert (properties["gsd"], properties["benexp:answer_size"], properties["benexp:answer_spacing"]) == (10, 1200, 600)
    folder, _ = classified(safe, tmp_path / "fine", "chunking=fine")
    assert {tags["EFFECTIVE_RESOLUTION"] for tags in tags_of(folder)} == {RESOLUTION.replace("600", "300")}


@pytest.mark.parametrize("evidence", ["xml", "folder", "zip", "files", "item", "item of another zone", "item's name"])
def test_the_time_of_sensing_is_found(evidence: str, tmp_path: Path) -> None:
    named = "S2A_MSIL2A_20230625T234621_N0509_R073_T33UUP_20230626T022158"
    inside = named if evidence in ("folder", "zip") else "tile"
    pattern = "T33UUP_20230625T234621_{band}.tif" if evidence == "files" else "{band}.tif"
    product = write_folder(tmp_path / inside, pattern=pattern, size=(120, 120))
    exact = "2023-06-25T23:46:21.024Z"
    item = stac_item("02.11")
    if evidence == "item of another zone":
        item["properties"]["datetime"] = exact.replace("Z", "+00:00")
    elif evidence == "item's name":
        item |= {"id": named, "properties": {"datetime": None}}
    if evidence.startswith("item"):
        (product / "item.json").write_text(json.dumps(item))
    if evidence == "xml":
        started = f"<PRODUCT_START_TIME>{exact}</PRODUCT_START_TIME><PRODUCT_URI>"
        (product / "MTD_MSIL2A.xml").write_text(
            mtd_xml("L2A", "x", "0211", None, 10000).replace("<PRODUCT_URI>", started)
        )
    product = zip_product(product) if evidence == "zip" else product
    expected = exact if evidence in ("xml", "item", "item of another zone") else "2023-06-25T23:46:21Z"
    override = ("offset=none", "offset_override=true")
    folder, record = classified(product, tmp_path / "out", *override)
    assert record["sensed"] == item_of(folder)["properties"]["datetime"] == expected
    for tags in tags_of(folder):
        assert (tags["SENSED"], tags["TIFFTAG_COPYRIGHT"]) == (expected, f"{COPERNICUS} 2023")
    assert f"{COPERNICUS} 2023" in page_text(folder) and expected in page_text(folder)


def test_an_unknown_time_of_sensing_is_not_made_up(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "tile", size=(120, 120))
    folder, record = classified(product, tmp_path / "out", "offset=none")
    assert record["sensed"] is None
    assert all("SENSED" not in tags and tags["TIFFTAG_COPYRIGHT"] == COPERNICUS for tags in tags_of(folder))
    properties = item_of(folder)["properties"]
    assert properties["datetime"] is None and properties["start_datetime"] == "2015-06-23T00:00:00Z"
    assert "Sensed not stated by the product" in page_text(folder)


def test_a_made_up_product_is_not_said_to_be_copernicus_data(tmp_path: Path) -> None:
    product, _ = write_product(tmp_path / "in", size=240)
    folder, record = classified(product, tmp_path / "out")
    source = "Made of simulated data: contains no Copernicus Sentinel data"
    assert record["simulated"] and record["attribution"] == source
    item = item_of(folder)
    assert item["properties"]["benexp:attribution"] == source and not item["links"]
    assert not {"license", "platform", "constellation", "instruments"} & set(item["properties"])
    assert {tags["TIFFTAG_COPYRIGHT"] for tags in tags_of(folder)} == {source}
    assert source in page_text(folder) and COPERNICUS not in page_text(folder)


def test_the_model_is_named_by_its_revision_or_its_hash(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, record = classified(safe, tmp_path / "local")
    for tags in tags_of(folder):
        assert "REVISION" not in tags and tags["WEIGHTS_SHA256"] == record["model"]["weights_hash"]
    item = item_of(folder)
    # Everything that the item names lies beside it.
    assert not [asset["href"] for asset in item["assets"].values() if not (folder / asset["href"]).is_file()]
    assert not [extension for extension in item["stac_extensions"] if re.search("/(mlm|eo)/", extension)]
    assert not re.findall(r'"(mlm|eo):', json.dumps(item))
    monkeypatch.setattr("benexp.models.hub.fetch", lambda repository, revision: (DEMO_MODEL, "c0ffee"))
    folder, record = classified(safe, tmp_path / "hub", "model.weights=hub", "model.repo_id=a/b")
    for tags in tags_of(folder):
        assert (tags["REVISION"], tags["WEIGHTS_SHA256"]) == ("c0ffee", record["model"]["weights_hash"])
    item = item_of(folder)
    assert item["assets"]["model.safetensors"]["href"] == "https://huggingface.co/a/b/resolve/c0ffee/model.safetensors"
    assert [key for key in item["properties"] if key.startswith("mlm:")]
    assert len([extension for extension in item["stac_extensions"] if re.search("/(mlm|eo)/", extension)]) == 2


def test_terms_thumbnail_and_collection(safe: Path, tmp_path: Path) -> None:
    arguments = [*NULL, f"input_dir={safe.parent}", f"output_folder={tmp_path / 'out'}"]
    assert main(arguments) == 0
    (folder,) = (path.parent for path in (tmp_path / "out").glob("*/run.json"))
    item = item_of(folder)
    assert item["assets"]["preview.png"]["roles"] == ["thumbnail", "overview"]
    collection = json.loads((tmp_path / "out" / "collection.json").read_text())
    validate_core(collection)
    for content in (item, collection):
        assert "license" in [link["rel"] for link in content["links"]]
    assert collection["license"] == "other" and f"{COPERNICUS} 2023." in collection["description"]


def test_the_same_input_gives_the_same_bytes(patchy: Path, tmp_path: Path) -> None:
    first, second = (classified(patchy, tmp_path / name)[0] for name in ("first", "second"))
    for name in ("areas.csv", "preview.png", f"{first.name}.json", f"{first.name}_class.tif"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
