"""The STAC collection over several tiles, and over a sweep's jobs: what they span, and what the schemas say of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

from benexp.models.spec import ModelSpec
from benexp.report.collection import write_collection, write_sweep_collection
from tests.report.made_up_items import SENSED, record_of, write_tile
from tests.stac_schemas import SCHEMAS, validate_core, validate_extensions


def read(path: Path | None) -> dict[str, Any]:
    """A collection, which must be valid."""
    assert path
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    validate_core(content)
    if SCHEMAS.is_dir():
        assert "projection" in validate_extensions(content)
    return content


def test_collection_spans_its_items(tmp_path: Path, small_model: ModelSpec) -> None:
    write_tile(tmp_path, small_model, "c", sensed="2023-07-01T00:00:00Z", transform=[10, 0, 700000, 0, -10, 5600000])
    write_tile(tmp_path, small_model, "a")
    path = write_collection(tmp_path, record_of().config_hash)
    content = read(path)
    collection = pystac.Collection.from_file(str(path))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["a", "c"]
    assert all(item.get_collection() is collection for item in items)
    (box,) = collection.extent.spatial.bboxes
    boxes = np.array([item.bbox for item in items])
    assert box == [*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]
    assert content["extent"]["temporal"]["interval"] == [[SENSED, "2023-07-01T00:00:00Z"]]
    assert [Path(str(i.assets["class"].get_absolute_href())).exists() for i in items] == [True, True]
    assert content["description"].startswith("Land cover of 2 Sentinel-2 tiles. RANDOM WEIGHTS")


def test_collection_of_unknown_times_is_open(tmp_path: Path, small_model: ModelSpec) -> None:
    write_tile(tmp_path, small_model, "a", sensed=None)
    write_tile(tmp_path, small_model, "b")
    assert read(write_collection(tmp_path, record_of().config_hash))["extent"]["temporal"]["interval"] == [
        ["2015-06-23T00:00:00Z", None]
    ]


def test_items_of_earlier_runs_stay_and_unfinished_ones_are_none(
    tmp_path: Path, small_model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"patch_size": 120, "stride": 30, "blend": "flat", "min_valid": 0.5}
    write_tile(tmp_path, small_model, "first", config={"chunking": other}, config_hash="fedcba9876543210")
    write_tile(tmp_path, replace(small_model, name="another"), "second", up=False)
    write_tile(tmp_path, small_model, "unfinished")
    (tmp_path / "unfinished" / "run.json").unlink()
    write_tile(tmp_path, small_model, "damaged")
    (tmp_path / "damaged" / "damaged.json").write_text("{")
    (tmp_path / "file").touch()
    content = read(write_collection(tmp_path, record_of().config_hash))
    assert [link["title"] for link in content["links"] if link["rel"] == "item"] == ["first", "second"]
    assert content["id"] == "benexp-0123456789ab"
    assert "in several ways" in content["description"] and "another" in content["title"]
    assert "damaged.json: left out of collection.json, as it cannot be read" in caplog.text


def test_a_sweep_has_a_collection_of_its_jobs_collections(tmp_path: Path, small_model: ModelSpec) -> None:
    jobs = {name: [tmp_path / "jobs" / name[0] / repeat for repeat in "12"] for name in ("a <b>", "c", "failed")}
    for place in jobs["a <b>"] + jobs["c"][1:]:
        place.mkdir(parents=True)
        write_tile(place, small_model, "tile", config_hash=f"{place.parent.name:0<16}")
        write_collection(place, f"{place.parent.name:0<16}")
    path = write_sweep_collection(tmp_path, jobs)
    content = read(path)
    child = json.loads((jobs["c"][1] / "collection.json").read_text())
    assert content["extent"] == child["extent"] and content["summaries"]["proj:code"] == ["EPSG:32631"]
    sweep = pystac.Collection.from_file(str(path))
    assert [(link.title, link.href) for link in sweep.get_child_links()] == [
        ("a <b>", "./jobs/a/1/collection.json"),
        ("c", "./jobs/c/2/collection.json"),
    ]
    assert [child.id for child in sweep.get_children()] == ["benexp-a00000000000", "benexp-c00000000000"]
    assert [item.id for item in sweep.get_items(recursive=True)] == ["tile", "tile"]
    assert write_sweep_collection(tmp_path, {"failed": jobs["failed"]}) is None
    assert not (tmp_path / "collection.json").exists()
