"""What cannot be classified: one clear line, and nothing left behind that looks like a result."""

import contextlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pystac
import pytest
from safetensors.numpy import load_file, save_file

from benexp import BenexpError, classify
from benexp.cli.app import main
from benexp.models.resolve import DEMO_MODEL
from tests.products.builders import ORIGIN, random_arrays, write_band, write_folder, write_safe, zip_product
from tests.tasks.runs import FAST, files_below


def test_two_products_of_one_name_do_not_overwrite_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, seed in (("2020", 1), ("2021", 2)):
        folder = write_folder(tmp_path / name / "scene", arrays=random_arrays((130, 130), seed=seed))
        zip_product(folder, tmp_path / "products" / f"{name}.zip")
    assert main([f"input_dir={tmp_path / 'products'}", f"output_folder={tmp_path}", *FAST, "offset=none"]) == 1
    assert "2021.zip: its results would overwrite those of another scene" in caplog.text
    assert (tmp_path / "scene" / "run.json").exists()


def test_results_never_go_into_the_product(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "flat", arrays=random_arrays((130, 130)))
    before = files_below(product)
    with pytest.raises(BenexpError, match="results would lie inside"):
        classify(product, tmp_path, *FAST, "offset=none")
    assert files_below(product) == before


def test_a_name_too_long_for_results_is_told_before_any_work(tmp_path: Path) -> None:
    for length in (200, 201):
        product = write_folder(tmp_path / ("x" * length), arrays=random_arrays((130, 130)))
        with contextlib.nullcontext() if length == 200 else pytest.raises(BenexpError, match="too long names: rename"):
            classify(product, tmp_path / "out", *FAST, "backend=null", "layers=full", "offset=none")
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["x" * 200]


def test_a_wrong_path_is_told_before_weights_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benexp.models.hub.fetch", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(BenexpError, match="holds no Sentinel-2 bands"):
        classify(tmp_path, tmp_path / "out")


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
    assert not files_below(out)


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


def test_a_damaged_band_leaves_no_output(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    safe = write_safe(tmp_path / "products", size=(250, 310))
    band = next(safe.rglob("*_B08_10m.jp2"))
    band.write_bytes(band.read_bytes()[: int(band.stat().st_size * 0.6)])
    out = tmp_path / "out"
    for integrity in ("auto", "none"):
        caplog.clear()
        assert main([f"tile_folder={safe}", f"output_folder={out}", *FAST, f"integrity={integrity}"]) == 1
        assert band.name in caplog.messages[0]
        assert not files_below(out)


def test_an_output_folder_that_cannot_be_made(safe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert main([f"tile_folder={safe}", f"output_folder={blocked / 'out'}", *FAST]) == 1
    assert str(blocked) in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_a_full_disk_leaves_nothing_that_looks_whole(safe: Path, tmp_path: Path) -> None:
    """No file may grow past 20 kB: as on a disk that is full, writing fails in the middle."""
    code = (
        "import resource, signal, sys; from benexp.cli.app import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from benexp import classify;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = [f"tile_folder={safe}", f"output_folder={tmp_path}", *FAST, "backend=torch"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "benexp: error: cannot write" in ran.stderr
    assert "Traceback" not in ran.stderr
    # Chunks and the grid are small enough to be kept, and the same command goes on from them; nothing else is there.
    assert all("/.chunks-" in f"/{name}" or name.endswith("_grid.npz") for name in files_below(tmp_path))


def test_errors_from_python_are_benexp_errors(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="holds no Sentinel-2 bands|does not exist|no such"):
        classify(tmp_path / "absent", tmp_path / "out", *FAST)
    with pytest.raises(BenexpError, match="unknown key chunking.strid"):
        classify(tmp_path, tmp_path / "out", *FAST, "chunking.strid=3")
