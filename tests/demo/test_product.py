"""The made-up products are real ones: archive layout, metadata, checksums, truth."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.demo.landscape import make_landscape, truth_rows
from benexp.demo.product import product_name, write_product
from benexp.demo.scenery import BANDS
from benexp.products import find_products, open_product, open_tile
from benexp.products.integrity import check


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_product(tmp_path_factory.mktemp("demo"), size=480, seed=3)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_is_an_l2a_product_with_an_offset(product: tuple[Path, Path]) -> None:
    found = open_product(product[0])
    assert found.level == "L2A"
    assert found.simulated and "no Copernicus" in found.attribution
    with open_tile(found, BANDS) as tile:
        assert tile.shape == (480, 480)
        assert set(tile.offsets.values()) == {-1000}
        assert tile.warnings == ()
        pixels, valid = tile.read(Window(0, 0, 480, 480))
    with rasterio.open(product[1]) as truth:
        assert (truth.crs, truth.transform) == (tile.crs, tile.transform)
        labels = truth.read(1)
    # The swath's edge cuts every band and the truth at the same pixels.
    assert np.array_equal(labels != 255, valid)
    assert 0.8 < valid.mean() < 0.99
    # The sea is dark, and its stored numbers are below 2000: the offset matters.
    sea = labels == 11
    assert sea.mean() > 0.05
    assert np.median(pixels[BANDS.index("B11")][sea]) < 100


def test_its_checksums_are_right(product: tuple[Path, Path], tmp_path: Path) -> None:
    check(open_product(product[0]), "checksum", BANDS)


def test_the_truth_is_not_taken_for_a_product(product: tuple[Path, Path]) -> None:
    assert find_products(product[0].parent) == [product[0]]


def test_the_same_size_and_seed_give_the_same_bytes(product: tuple[Path, Path], tmp_path: Path) -> None:
    again = write_product(tmp_path, size=480, seed=3)
    assert digests(again[0]) == digests(product[0])
    assert again[1].read_bytes() == product[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {again[0].name, again[1].name}


def test_what_a_killed_run_left_is_no_product_and_goes(product: tuple[Path, Path], tmp_path: Path) -> None:
    left = tmp_path / f".{product_name(240, 7)}.partial"
    shutil.copytree(product[0], left)
    with pytest.raises(BenexpError, match="holds no products"):
        find_products(tmp_path)
    write_product(tmp_path, 240, 7)
    assert not left.exists()


def test_another_seed_or_size_is_another_product(product: tuple[Path, Path], tmp_path: Path) -> None:
    names = {product_name(size, seed) for size in range(120, 10981, 2) for seed in (0, 1, 2, 120, 122, 60_000_000)}
    assert len(names) == 5431 * 6
    other = write_product(tmp_path, size=480, seed=4)
    with rasterio.open(other[1]) as a, rasterio.open(product[1]) as b:
        assert (a.read(1) != b.read(1)).mean() > 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_landscape_holds_many_classes(seed: int) -> None:
    landscape = make_landscape(1200, seed)
    labels = truth_rows(landscape, 0, 1200)
    shares = np.bincount(labels.ravel(), minlength=256)[:19] / labels.size
    assert (shares > 0.002).sum() >= 10
    assert shares.max() < 0.4


@pytest.mark.parametrize(("size", "seed"), [(118, 0), (481, 0), (10982, 0), (480, -1)])
def test_wrong_sizes_and_seeds_are_named(size: int, seed: int, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"demo\.(size|seed)=-?\d+: takes"):
        write_product(tmp_path, size, seed)


def test_the_command_prints_both_paths(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benexp.demo", str(tmp_path), "--size", "240", "--seed", "5"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    safe, truth = map(Path, ran.stdout.splitlines())
    assert (safe / "MTD_MSIL2A.xml").is_file()
    assert truth.is_file()
    ran = subprocess.run([*command[:-4], "--size", "7"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("benexp: error: demo.size=7")
