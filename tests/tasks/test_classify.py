"""Products to maps, through the command line and from Python, with everything between."""

import csv
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from safetensors.numpy import load_file, save_file

from benexp import BenexpError, classify
from benexp.app import main
from benexp.backends.base import Backend
from benexp.models.resolve import DEMO_MODEL
from tests.products.builders import ORIGIN, random_arrays, write_band, write_folder, write_safe, zip_product

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


def greedy(probabilities: np.ndarray, class_names: Any) -> np.ndarray:
    """A user's layer that spoils its input."""
    probabilities /= probabilities.sum(0)
    return probabilities[0]


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


def test_a_backends_own_settings_are_part_of_the_question(safe: Path, tmp_path: Path) -> None:
    """A saved grid is not reused where a user's own key of the backend changed; batch and threads change nothing."""
    settings = ["backend._target_=tests.tasks.test_classify.Brightness", "backend.gain=1.0"]
    first = classify(safe, tmp_path, *FAST, *settings)
    assert classify(safe, tmp_path, *FAST, *settings, "backend.batch_size=3")["grid_reused"]
    other = classify(safe, tmp_path, *FAST, *settings[:1], "backend.gain=0.5")
    assert not other["grid_reused"]
    assert other["map_hash"] != first["map_hash"]


def test_what_was_read_from_a_damaged_file_is_not_reused(tmp_path: Path) -> None:
    """Flipped bytes decode without an error: only the checksum tells, and then nothing of that run may stay."""
    safe = write_safe(tmp_path, size=(250, 310), manifest="SHA3-256")
    band = next(safe.rglob("*_B08_10m.jp2"))
    good = band.read_bytes()
    middle = len(good) // 2
    band.write_bytes(good[:middle] + bytes(b ^ 0xFF for b in good[middle : middle + 40]) + good[middle + 40 :])
    with pytest.raises(BenexpError, match="B08_10m"):
        classify(safe, tmp_path / "out", *FAST)
    assert not _results(tmp_path / "out")
    unverified = classify(safe, tmp_path / "out", *FAST, "integrity=none")
    band.write_bytes(good)
    repaired = classify(safe, tmp_path / "out", *FAST)
    assert not repaired["grid_reused"]
    assert repaired["grid_key"] != unverified["grid_key"]
    with rasterio.open(tmp_path / "out" / repaired["tile"] / f"{repaired['tile']}_maxprob.tif") as raster:
        mended = raster.read(1)
    fresh = classify(safe, tmp_path / "fresh", *FAST)
    with rasterio.open(tmp_path / "fresh" / fresh["tile"] / f"{fresh['tile']}_maxprob.tif") as raster:
        assert np.array_equal(mended, raster.read(1))


def test_rasters_of_an_earlier_run_do_not_stay_beside_the_new_ones(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "layers=full")
    folder = tmp_path / record["tile"]
    (folder / "notes.txt").write_text("the user's own")
    classify(safe, tmp_path, *FAST, "chunking.blend=flat")
    assert not list(folder.glob("*_probs.tif"))
    assert not list(folder.glob("*_multilabel.tif"))
    assert (folder / "notes.txt").exists()
    assert not [name for name in _results(folder) if "partial" in name or "unfinished" in name]


def test_two_products_of_one_name_do_not_overwrite_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, seed in (("2020", 1), ("2021", 2)):
        folder = write_folder(tmp_path / name / "scene", arrays=random_arrays((130, 130), seed=seed))
        zip_product(folder, tmp_path / "products" / f"{name}.zip")
    assert main([f"input_dir={tmp_path / 'products'}", f"output_folder={tmp_path}", *FAST, "offset=none"]) == 1
    assert "2021.zip: its results would overwrite those of another scene" in caplog.text
    assert (tmp_path / "scene" / "run.json").exists()


def test_results_never_go_into_the_product(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "flat", arrays=random_arrays((130, 130)))
    before = _results(product)
    with pytest.raises(BenexpError, match="results would lie inside"):
        classify(product, tmp_path, *FAST, "offset=none")
    assert _results(product) == before


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


def test_a_wrong_path_is_told_before_weights_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benexp.models.hub.fetch", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(BenexpError, match="holds no Sentinel-2 bands"):
        classify(tmp_path, tmp_path / "out")


def test_a_user_layer_cannot_change_what_the_next_one_sees(safe: Path, tmp_path: Path) -> None:
    extra = "layers.extra={greedy:{function:tests.tasks.test_classify.greedy,dtype:float32}}"
    with pytest.raises(BenexpError, match=r"layers\.extra\.greedy: .*read-only"):
        classify(safe, tmp_path, *FAST, "backend=null", extra)


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


def test_a_tile_without_data_is_a_map_without_classes(tmp_path: Path) -> None:
    arrays = {band: np.zeros_like(array) for band, array in random_arrays((130, 150)).items()}
    record = classify(write_folder(tmp_path / "empty", arrays=arrays), tmp_path / "out", *FAST, "offset=none")
    assert record["patches"]["classified"] == 0
    with rasterio.open(tmp_path / "out" / "empty" / "empty_class.tif") as raster:
        assert (raster.read(1) == 255).all()


def _bad(kind: str, folder: Path) -> list[str]:
    """Overrides that ask for something wrong, made in `folder`."""
    arrays = random_arrays((130, 130))
    if kind == "empty folder":
        (folder / "empty").mkdir(parents=True)
        return [f"tile_folder={folder / 'empty'}"]
    if kind == "unreadable zip":
        folder.mkdir()
        (folder / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing")
        return [f"tile_folder={folder / 'bad.zip'}"]
    if kind == "unknown band":
        return [f"tile_folder={write_folder(folder, arrays=arrays)}", "model.bands=[B02,B99]"]
    if kind == "smaller than a patch":
        return [f"tile_folder={write_folder(folder, arrays=random_arrays((118, 400)))}", "offset=none"]
    if kind == "unknown offset":
        return [f"tile_folder={write_folder(folder, arrays=arrays)}"]
    if kind == "another CRS":
        product = write_folder(folder, arrays=arrays)
        band = next(product.glob("*B11*"))
        write_band(band, arrays["B11"], 20, crs="EPSG:32632")
        return [f"tile_folder={product}", "offset=none"]
    if kind == "shifted band":
        product = write_folder(folder, arrays=arrays)
        band = next(product.glob("*B11*"))
        write_band(band, arrays["B11"], 20, origin=(ORIGIN[0] + 60, ORIGIN[1]))
        return [f"tile_folder={product}", "offset=none"]
    checkpoint = folder / "checkpoint"
    shutil.copytree(DEMO_MODEL, checkpoint)
    if kind == "wrong channel count":
        content = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps(content | {"channels": 12}))
    else:
        weights = load_file(checkpoint / "model.safetensors")
        weights.pop(next(iter(weights)))
        save_file(weights, checkpoint / "model.safetensors")
    product = write_folder(folder / "product", arrays=arrays)
    return [f"tile_folder={product}", "offset=none", "model.weights=folder", f"model.path={checkpoint}"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty folder", "holds no Sentinel-2 bands"),
        ("unreadable zip", "bad.zip"),
        ("unknown band", "B99"),
        ("smaller than a patch", "smaller than one patch"),
        ("unknown offset", "offset=none"),
        ("another CRS", "B11"),
        ("shifted band", "B11"),
        ("wrong channel count", "channels"),
        ("missing keys", "lacks model.vision_encoder."),
    ],
)
def test_bad_input_is_one_clear_line_and_no_output(
    kind: str, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        assert main([*_bad(kind, tmp_path / "bad"), f"output_folder={out}", "model=demo", "backend=torch"]) == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert message in errors[0]
    assert "\n" not in errors[0]
    assert not _results(out)


def test_the_readmes_own_layer_and_backend_run(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for module in ("my_layers", "my_backend"):
        code = re.search(rf"```python\n# {module}\.py\n(.*?)```", readme, re.DOTALL)[1]
        (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    layer = re.search(r"'(layers\.extra=.*?)'", readme)[1]
    backend = re.search(r"(backend\._target_=my_backend\S+) (backend\.level=\S+)", readme)
    record = classify(safe, tmp_path / "out", "model=demo", layer, backend[1], backend[2])
    with rasterio.open(tmp_path / "out" / record["tile"] / f"{record['tile']}_water.tif") as raster:
        assert np.nanmax(raster.read(1)) == pytest.approx(0.3)


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
    assert [item.id for item in pystac.Collection.from_file(str(out / "collection.json")).get_items()] == ["good"]


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
        assert not _results(out)


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
    # The grid is small enough to be saved, and whole; nothing else is there.
    assert all(name.endswith("_grid.npz") for name in _results(tmp_path))


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
