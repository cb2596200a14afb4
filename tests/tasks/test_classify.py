"""Products to maps, through the command line and from Python, with everything between."""

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from benexp import BenexpError, classify
from benexp.app import main
from benexp.backends.base import Backend
from tests.products.builders import random_arrays, write_folder, write_safe

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FAST = ("model=demo", "chunking.chunk_size=200")


class Brightness(Backend):
    """A user's own backend: the class is the mean of B02, in 19 steps; one key of its own."""

    def __init__(self, *args: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = gain

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        steps = np.clip(self.gain * patches[:, 0].mean((1, 2)) / 5000 * 19, 0, 18.99).astype(int)
        return np.eye(19, dtype=np.float32)[steps]


def water(probabilities: np.ndarray, class_names: Any) -> np.ndarray:
    """A user's own layer."""
    return probabilities[[list(class_names).index(name) for name in ("Inland waters", "Marine waters")]].sum(0)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of 250 x 310 pixels with an offset and a nodata corner."""
    arrays = random_arrays((250, 310))
    for array in arrays.values():
        array += 1000
        side = len(array) // 5
        array[:side, :side] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=(250, 310), manifest="MD5")


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
        *(f"{tile}_{name}.qml" for name in ("class", "maxprob", "entropy", "gap")),
        f"{tile}_classmap.json",
        f"{tile}_grid.npz",
        "areas.csv",
        "preview.png",
        "viewer.html",
        "run.json",
    }
    assert json.loads((folder / "run.json").read_text()) == json.loads(json.dumps(record, default=str))
    assert set(record["files"]) >= set(rasters)


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
            assert tags["PRECISION"] == "fp32"
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
    assert sum(float(row["hectares"]) for row in rows) == pytest.approx(record["valid_pixels"] / 100)
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


def test_a_second_run_renders_the_saved_grid(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classify(safe, tmp_path, *FAST)
    assert not first["grid_reused"]
    with monkeypatch.context() as patch:
        patch.setattr(Backend, "classify", lambda *_: pytest.fail("the model ran"))
        second = classify(safe, tmp_path, *FAST, "chunking.blend=flat", "layers.names=[class,gap]")
    assert second["grid_reused"]
    assert [name for name in second["files"] if name.endswith("_gap.tif")]
    assert not [name for name in second["files"] if name.endswith("_entropy.tif")]
    assert second["backend"] == first["backend"]
    assert not classify(safe, tmp_path, *FAST, "chunking.min_valid=0.9")["grid_reused"]
    assert not classify(safe, tmp_path, *FAST, "chunking.min_valid=0.9", "resume=false")["grid_reused"]


def test_a_region_is_the_part_of_the_tile(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "region.pixels=[40,60,130,200]")
    with rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as band:
        west, north = band.transform * (60, 40)
    with rasterio.open(tmp_path / record["tile"] / f"{record['tile']}_class.tif") as raster:
        assert raster.shape == (130, 200)
        assert (raster.bounds.left, raster.bounds.top) == (west, north)


def test_a_users_own_backend_and_layer(safe: Path, tmp_path: Path) -> None:
    record = classify(
        safe,
        tmp_path,
        *FAST,
        "backend._target_=tests.tasks.test_classify.Brightness",
        "backend.gain=1.0",
        "layers.extra={water:{function:tests.tasks.test_classify.water,dtype:float32,description:Any water}}",
    )
    tile = record["tile"]
    with rasterio.open(tmp_path / tile / f"{tile}_class.tif") as raster:
        # DN are uniform from 1 to 4999, so the mean of a whole patch is in the middle step.
        classes = raster.read(1)
    assert np.bincount(classes.ravel())[:255].argmax() == 9
    with rasterio.open(tmp_path / tile / f"{tile}_water.tif") as raster:
        # A patch half without data is darker: class 8, which is inland waters.
        assert np.array_equal(raster.read(1) > 0.5, classes == 8)
        assert raster.tags()["DESCRIPTION"] == "Any water"
    assert record["backend"]["backend"] == "Brightness"


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
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "20 patches" in ran.stdout
    assert "_class.tif" in ran.stdout
    assert "infer" in ran.stdout
    assert ran.stderr == ""


def test_input_dir_classifies_every_product_and_goes_on_after_a_bad_one(
    safe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    products = tmp_path / "products"
    write_folder(products / "good", arrays=random_arrays((130, 130)))
    bad = random_arrays((130, 130))
    del bad["B11"]
    write_folder(products / "bad", arrays=bad)
    out = tmp_path / "out"
    assert main([f"input_dir={products}", f"output_folder={out}", *FAST, "offset=none"]) == 1
    assert (out / "good" / "run.json").exists()
    assert not (out / "bad").exists()
    assert "B11" in caplog.text
    assert "1 of 2 products failed: bad" in caplog.text


def test_a_sweep_gives_each_job_its_folder(safe: Path, tmp_path: Path) -> None:
    arguments = [f"tile_folder={safe}", f"output_folder={tmp_path}", *FAST, "-m", "chunking.stride=60,119"]
    command = [sys.executable, "-m", "benexp", *arguments]
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("jobs/*/*/run.json")]
    assert {record["config"]["chunking"]["stride"] for record in records} == {60, 119}


def _results(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_a_damaged_band_leaves_no_output(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    safe = write_safe(tmp_path / "products", size=(250, 310))
    band = next(safe.rglob("*_B08_10m.jp2"))
    band.write_bytes(band.read_bytes()[: int(band.stat().st_size * 0.6)])
    out = tmp_path / "out"
    for integrity in ("auto", "none"):
        caplog.clear()
        assert main([f"tile_folder={safe}", f"output_folder={out}", *FAST, f"integrity={integrity}"]) == 1
        assert band.name in caplog.messages[0]
        assert not [name for name in _results(out) if "_grid" not in name]


def test_an_output_folder_that_cannot_be_made(safe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert main([f"tile_folder={safe}", f"output_folder={blocked / 'out'}", *FAST]) == 1
    assert str(blocked) in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_a_full_disk_leaves_nothing_that_looks_whole(safe: Path, tmp_path: Path) -> None:
    """No file may grow past 20 kB: as on a disk that is full, writing fails in the middle."""
    code = (
        "import resource, signal, sys; from benexp.app import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from benexp import classify;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = [f"tile_folder={safe}", f"output_folder={tmp_path}", *FAST, "backend=torch"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "benexp: error: cannot write" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not [name for name in _results(tmp_path) if not name.endswith("_grid.npz")]


def test_errors_from_python_are_benexp_errors(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="holds no Sentinel-2 bands|does not exist|no such"):
        classify(tmp_path / "absent", tmp_path / "out", *FAST)
    with pytest.raises(BenexpError, match="unknown key chunking.strid"):
        classify(tmp_path, tmp_path / "out", *FAST, "chunking.strid=3")


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
