"""The script of the methods page makes the same map as benexp, without it."""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

from benexp.cli.app import main
from benexp.demo.product import write_product
from benexp.models.band_statistics import MEANS, STDS
from tests.products.builders import ORIGIN, RESOLUTIONS, TEN, write_folder, write_safe
from tests.tasks.runs import FAST

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "reproduce.py"
REAL = DOCS.parents[1] / "shared" / "data" / "mini-safe-N0211"
CLOSE = 1e-6
"""The difference of a probability that rounding may make."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, as the command line exports it."""
    folder = tmp_path_factory.mktemp("models")
    assert main(["task=export", "model=demo", f"output_folder={folder}"]) == 0
    return folder / "demo-fp32.onnx"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .SAFE of 354 x 354 pixels, no multiple of a stride here, with offset -1000 in its XML and a swath's edge."""
    return write_product(tmp_path_factory.mktemp("product"), 354, 7)[0]


def stored(product: Path) -> dict[str, npt.NDArray[Any]]:
    """The numbers in a .SAFE's files, by band."""
    bands = {}
    for band in (*TEN, "SCL"):
        with rasterio.open(next(product.rglob(f"*_{band}_{RESOLUTIONS[band]}m.jp2"))) as raster:
            bands[band] = raster.read(1)
    return bands


def by_benexp(product: Path, model: Path, out: Path, *settings: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Classes [h, w] and probabilities [classes, h, w]."""
    arguments = [f"tile_folder={product}", f"output_folder={out}", "model=onnx", f"model.path={model}", "layers=full"]
    assert main([*FAST[1:], *arguments, *settings]) == 0
    (classes,), (probs,) = out.glob("*/*_class.tif"), out.glob("*/*_probs.tif")
    with rasterio.open(classes) as first, rasterio.open(probs) as second:
        return first.read(1), second.read()


def by_script(product: Path, model: Path, out: Path, *options: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The same, by the script in a process of its own."""
    out.mkdir()
    classes, probs = out / "classes.tif", out / "probs.npy"
    command = [sys.executable, "-I", SCRIPT, product, model, classes, "--probs", probs, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with rasterio.open(classes) as raster:
        return raster.read(1), np.load(probs)


def assert_same(product: Path, model: Path, tmp_path: Path, settings: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    """Hold the two maps to each other; the pixels [h, w] that have no class. `settings`: benexp's and the script's."""
    ours, probs = by_benexp(product, model, tmp_path / "benexp", *settings)
    options = [word for option in settings.values() for word in option.split()]
    theirs, others = by_script(product, model, tmp_path / "script", *options)
    assert ours.shape == theirs.shape and probs.shape == others.shape
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.isnan(probs), np.isnan(others))
    np.testing.assert_array_equal(np.isnan(probs[0]), ours == 255)
    assert np.nanmax(np.abs(probs - others)) <= CLOSE
    assert len(np.unique(ours)) > 3  # not a map of one class, which any rule would make
    return np.asarray(ours == 255)


@pytest.fixture(scope="module")
def folder(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same numbers in a folder without XML: a corner without data, which leaves half of the first patch,
    saturated and dark blocks, a declared nodata value, a misplaced band."""
    arrays = stored(product)
    scl = arrays.pop("SCL")
    for band, array in arrays.items():
        side = 1200 // RESOLUTIONS[band]
        array[: side // 2, :side] = 0
        array[-side:, :side] = np.where(array[-side:, :side] > 0, 900, 0)
    arrays["B04"][200:230, 150:210] = 65535
    arrays["B11"][40:70, 60:80] = 0
    arrays["B05"][80:90, 100:110] = 7
    return write_folder(
        tmp_path_factory.mktemp("folder") / "bands",
        arrays=arrays,
        scl=scl,
        origins={"B12": (ORIGIN[0] - 6, ORIGIN[1] + 10)},
        nodata=7,
    )


def test_a_safe_with_an_offset(product: Path, model: Path, tmp_path: Path) -> None:
    missing = assert_same(product, model, tmp_path, {})
    assert 0 < missing.mean() < 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"chunking.blend=gaussian": "--blend gaussian", "chunking.min_valid=0.9": "--min-valid 0.9"},
        {"chunking.stride=45": "--stride 45", "saturated=keep": "--saturated keep"},
        {"chunking.stride=120": "--stride 120", "chunking.blend=flat": "--blend flat", "mask.scl=[0,6]": "--mask 0 6"},
    ],
    ids=["gaussian", "saturated", "masked"],
)
def test_a_folder_of_bands(folder: Path, model: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    missing = assert_same(folder, model, tmp_path, {"offset=-1000": "--offset -1000", **settings})
    assert missing[:60, :120].all()  # no data in any band
    assert missing[100:130, 130:150].all() and missing[170, 210]  # none in B11; none in B05
    assert missing[210, 180] == ("saturated=keep" not in settings)
    assert 0 < missing.mean() < 0.9


def test_other_units_an_odd_size_and_a_sidecar(product: Path, model: Path, tmp_path: Path) -> None:
    shapes = {10: (251, 353), 20: (126, 177)}
    arrays = {band: array[: shapes[RESOLUTIONS[band]][0], : shapes[RESOLUTIONS[band]][1]] // 2
              for band, array in stored(product).items() if band != "SCL"}  # fmt: skip
    halved = write_safe(tmp_path, arrays=arrays, offset=-500, quantification=5000)
    red = next(halved.rglob("*_B04_10m.jp2"))
    common = int(np.bincount(arrays["B04"][arrays["B04"] > 0]).argmax())
    red.with_name(f"{red.name}.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><NoDataValue>{common}</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    assert_same(halved, model, tmp_path, {})


def test_a_real_product_with_misplaced_bands(model: Path, tmp_path: Path) -> None:
    found = sorted(REAL.glob("*.SAFE"))
    if not found:
        pytest.skip(f"NO REAL PRODUCT: {REAL} is not there")
    assert_same(found[0], model, tmp_path, {"offset=none": "--offset 0"})


def test_the_page_has_the_statistics_that_models_are_given() -> None:
    rows = re.findall(r"^\| (B\w\w) \| ([\d.]+) \| ([\d.]+) \|$", (DOCS / "methods.md").read_text(), re.MULTILINE)
    assert {band: (float(mean), float(std)) for band, mean, std in rows} == {
        band: (MEANS[band], STDS[band]) for band in MEANS if band.startswith("B")
    }


def test_the_page_links_to_files_that_exist() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", (DOCS / "methods.md").read_text())
    assert len(linked) > 20
    assert [file for file in linked if not (DOCS / file).is_file()] == []


def test_the_script_is_short_and_stands_alone() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 80
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "rasterio"}
