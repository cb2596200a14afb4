"""Products to maps, through the command line and from Python, with everything between."""

import csv
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from benexp import classify
from benexp.cli.app import main
from tests.products.builders import random_arrays, write_folder, write_safe, zip_product
from tests.tasks.runs import FAST, folder_of

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def done(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out")
    record = classify(safe, out, *FAST, "layers=full")
    return record, out / record["tile"]


def test_every_output_is_there_and_nothing_else(done: tuple[dict[str, Any], Path]) -> None:
    record, folder = done
    tile = record["tile"]
    rasters = [f"{tile}_{name}.tif" for name in ("class", "maxprob", "entropy", "gap", "probs", "multilabel")]
    assert {path.name for path in folder.iterdir()} == {
        *rasters,
        f"{tile}_class.tif.aux.xml",
        *(raster.replace(".tif", ".qml") for raster in rasters),
        f"{tile}.json",
        f"{tile}_classmap.json",
        f"{tile}_grid.npz",
        "areas.csv",
        "preview.png",
        "viewer.html",
        "run.json",
    }
    assert json.loads((folder / "run.json").read_text()) == json.loads(json.dumps(record, default=str))
    assert set(record["files"]) >= set(rasters)
    page = (folder / "viewer.html").read_text()
    shown = set(re.findall(r'<td><a href="([^"]+)">', page))
    assert shown == {path.name for path in folder.iterdir()} - {"viewer.html"}
    assert record["backend_name"] in page and record["backend"]["backend"] not in page


def test_rasters_lie_where_the_tile_lies_and_are_valid_cogs(done: tuple[dict[str, Any], Path], safe: Path) -> None:
    record, folder = done
    with rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as band:
        expected = band.crs, band.transform, band.shape, band.bounds
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as raster:
            assert (raster.crs, raster.transform, raster.shape, raster.bounds) == expected
            tags = raster.tags()
            assert tags["MODEL"] == "demo"
            assert tags["STRIDE"] == "60"
            assert (tags["BACKEND"], tags["PRECISION"]) == (record["backend_name"], "fp32")
        valid, errors, _ = cog_validate(path, quiet=True)
        assert valid, errors


def test_the_corner_without_data_is_nodata_in_every_layer(done: tuple[dict[str, Any], Path]) -> None:
    record, folder = done
    expected = np.zeros((250, 310), bool)
    expected[:50, :50] = True
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as raster:
            assert np.array_equal(raster.read_masks(1) == 0, expected), path.name
    assert record["valid_pixels"] == 250 * 310 - 2500


def test_areas_add_up(done: tuple[dict[str, Any], Path]) -> None:
    record, folder = done
    with (folder / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    of_classes = sum(float(row["hectares"]) for row in rows if row["class_id"] != "255")
    assert of_classes == pytest.approx(record["valid_pixels"] / 100)
    with rasterio.open(folder / f"{record['tile']}_class.tif") as raster:
        ids, counts = np.unique(raster.read(1), return_counts=True)
    by_id = {int(row["class_id"]): float(row["hectares"]) for row in rows}
    for i, count in zip(ids, counts, strict=True):
        if i != 255:
            assert by_id[int(i)] == pytest.approx(count / 100)


@pytest.mark.parametrize(
    "settings",
    [
        ("chunking.chunk_size=120", "backend.batch_size=1", "backend.threads=1"),
        ("chunking.chunk_size=173", "backend.batch_size=5"),
        ("chunking.chunk_size=4096", "backend.batch_size=64", "backend.threads=3"),
    ],
)
def test_the_map_does_not_depend_on_chunks_batches_or_threads(
    settings: tuple[str, ...], done: tuple[dict[str, Any], Path], safe: Path, tmp_path: Path
) -> None:
    record = classify(safe, tmp_path, *FAST, *settings)
    assert record["map_hash"] == done[0]["map_hash"]
    name = f"{record['tile']}_maxprob.tif"
    with rasterio.open(tmp_path / record["tile"] / name) as a, rasterio.open(done[1] / name) as b:
        assert np.nanmax(np.abs(a.read(1) - b.read(1))) <= 1e-5


def test_onnxruntime_agrees_with_torch(done: tuple[dict[str, Any], Path], safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "backend=torch", "layers=full")
    tile = record["tile"]
    with rasterio.open(tmp_path / tile / f"{tile}_probs.tif") as a, rasterio.open(done[1] / f"{tile}_probs.tif") as b:
        torch_probs, onnx_probs = a.read(), b.read()
    assert np.nanmax(np.abs(torch_probs - onnx_probs)) < 1e-4
    second, best = np.sort(torch_probs, axis=0)[-2:]
    apart = best - second > 1e-4  # False where NaN
    assert apart.any()
    assert np.array_equal(torch_probs.argmax(0)[apart], onnx_probs.argmax(0)[apart])


def test_the_same_input_gives_the_same_bytes(done: tuple[dict[str, Any], Path], safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "layers=full")
    for name, about in done[0]["files"].items():
        if name.endswith((".tif", ".csv", ".json", ".png")):
            assert record["files"][name] == about, name


def test_a_region_is_the_part_of_the_tile(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "region.pixels=[40,60,130,200]")
    with rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as band:
        west, north = band.transform * (60, 40)
    folder = tmp_path / record["tile"] / "region-40-60-130-200"
    assert folder == folder_of(tmp_path, record)
    with rasterio.open(folder / f"{record['tile']}_class.tif") as raster:
        assert raster.shape == (130, 200)
        assert (raster.bounds.left, raster.bounds.top) == (west, north)


def test_a_home_folder_is_meant_by_a_tilde(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    classify(safe, "~/maps", *FAST, "backend=null")
    assert list((tmp_path / "maps").glob("*/run.json"))
    assert not (tmp_path / "~").exists()


def test_a_dry_run_needs_no_weights(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning with the default model, whose weights are on the Hub, asks nobody for them."""
    monkeypatch.setattr("benexp.models.hub.fetch", lambda *_: pytest.fail("the Hub was asked"))
    assert main([f"tile_folder={safe}", f"output_folder={tmp_path / 'out'}", "dry_run=true"]) == 0


def test_all_products_go_through_the_same_command(tmp_path: Path) -> None:
    """The .SAFE, its zip, L1C and a folder of the same bands give the same map; the scene classification masks."""
    arrays = random_arrays((250, 310))
    scl = np.full((125, 155), 4, np.uint8)
    scl[:30] = 9
    options = {"arrays": arrays, "size": (250, 310), "offset": None, "baseline": "0300"}
    safe = write_safe(tmp_path / "l2a", scl=scl, **options)
    zipped = zip_product(safe, tmp_path / "zip" / "product.zip")
    l1c = write_safe(tmp_path / "l1c", level="L1C", **options)
    flat = write_folder(tmp_path / "flat", arrays=arrays)
    common = (*FAST, "offset=none")
    records = [classify(path, tmp_path / f"out{i}", *common) for i, path in enumerate((safe, zipped, l1c, flat))]
    assert len({record["map_hash"] for record in records}) == 1
    assert ["L2A" in " ".join(record["warnings"]) for record in records] == [False, False, True, False]
    masked = classify(safe, tmp_path / "masked", *common, "mask.scl=[8,9,10]")
    assert masked["valid_pixels"] == (250 - 60) * 310


@pytest.mark.parametrize("stride", [120, 60, 50])
def test_a_real_model_gives_the_same_map_for_every_chunk_size(stride: int, safe: Path, tmp_path: Path) -> None:
    """Torch, whose answers depend a little on a patch's place in its batch."""
    maps = []
    for i, settings in enumerate([("chunking.chunk_size=4096", "backend.batch_size=32"),
                                  ("chunking.chunk_size=131", "backend.batch_size=3")]):  # fmt: skip
        record = classify(
            safe,
            tmp_path / str(i),
            "model=demo",
            "backend=torch",
            "layers=full",
            f"chunking.stride={stride}",
            *settings,
        )
        with rasterio.open(tmp_path / str(i) / record["tile"] / f"{record['tile']}_probs.tif") as raster:
            maps.append(raster.read())
    assert np.nanmax(np.abs(maps[0] - maps[1])) <= 1e-5
    second, best = np.sort(maps[0], axis=0)[-2:]
    apart = best - second > 1e-4
    assert apart.any()
    assert np.array_equal(maps[0].argmax(0)[apart], maps[1].argmax(0)[apart])


def test_a_tile_that_is_masked_all_over_is_a_map_without_classes(tmp_path: Path) -> None:
    scl = np.full((65, 75), 9, np.uint8)
    product = write_folder(tmp_path / "cloudy", arrays=random_arrays((130, 150)), scl=scl)
    record = classify(product, tmp_path / "out", *FAST, "offset=none", "mask.scl=[9]")
    assert record["patches"]["classified"] == 0
    assert [warning for warning in record["warnings"] if warning.startswith("0 of 4 patches are classified: 100 % of")]
    with rasterio.open(tmp_path / "out" / "cloudy" / "cloudy_class.tif") as raster:
        assert (raster.read(1) == 255).all()


def test_random_weights_are_tagged_as_such(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "backend=null", "model.weights=random")
    with rasterio.open(tmp_path / record["tile"] / f"{record['tile']}_class.tif") as raster:
        assert "RANDOM" in raster.tags()["WEIGHTS"]


def test_dry_run_says_what_it_would_take_and_writes_nothing(
    safe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        main([f"tile_folder={safe}", f"output_folder={out}", "model=demo", "chunking.chunk_size=150", "dry_run=true"])
        == 0
    )
    said = capsys.readouterr().out
    # Rows 0 60 120 130, columns 0 60 120 180 190: 20 patches; two squares of 150.
    assert "310 x 250 pixels; 20 patches; chunks: 2;" in said
    assert not out.exists()


def test_it_says_what_it_wrote_and_how_long_it_took(safe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benexp", f"tile_folder={safe}", f"output_folder={tmp_path}", *FAST]
    subprocess.run([*command, "region.pixels=[0,0,120,120]"], capture_output=True, check=True)  # exports the model
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "20 patches" in ran.stdout
    assert "_class.tif" in ran.stdout
    assert "infer" in ran.stdout
    assert not ran.stderr, "the answers for the region are a part of it"


def test_a_sweep_gives_each_job_its_folder(safe: Path, tmp_path: Path) -> None:
    arguments = [f"tile_folder={safe}", f"output_folder={tmp_path}", *FAST, "-m", "chunking.stride=60,119"]
    command = [sys.executable, "-m", "benexp", *arguments]
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("jobs/*/*/run.json")]
    assert {record["config"]["chunking"]["stride"] for record in records} == {60, 119}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real data is not here")
@pytest.mark.parametrize(
    ("product", "settings"),
    [
        ("scene-T48QUE/S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543", ("offset=none",)),
        ("mini-safe-N0211/S2A_MSIL2A_20181229T095411_N0211_R079_T33SVB_20181229T112231.SAFE", ()),
        ("model-card-patches/S2/S2A_MSIL2A_20180526T100031_N9999_R122_T34WFU_14_23", ()),
        ("bigearthnet-v1/BigEarthNet-S2-Example/S2A_MSIL2A_20170613T101031_87_48", ()),
    ],
)
def test_real_products(
    product: str, settings: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        record = classify(SHARED / product, tmp_path, *FAST, *settings)
    assert record["valid_pixels"] > 0
    assert ("mini-safe" in product) == bool(caplog.records)
    with rasterio.open(tmp_path / record["tile"] / f"{record['tile']}_class.tif") as raster:
        assert (raster.read(1) != 255).sum() == record["valid_pixels"]
