from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.products import find_products, open_product
from tests.products.builders import random_arrays, write_band, write_folder, write_patch, write_safe, zip_product


def test_products_of_all_kinds_are_found_in_order(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    zipped = zip_product(safe, tmp_path / "a.zip")
    folder = write_folder(tmp_path / "flat")
    patch = write_patch(tmp_path)
    assert find_products(tmp_path) == sorted([safe, zipped, folder, patch])


def test_the_truth_beside_a_product_and_other_files_are_no_products(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    write_band(tmp_path / f"{safe.stem}_truth.tif", random_arrays(bands=["B02"])["B02"], 10)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "B02.txt").write_text("no band")
    zip_product(tmp_path / "notes", tmp_path / "notes.zip")
    assert find_products(tmp_path) == [safe]


def test_a_product_gives_itself(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    assert find_products(safe) == [safe]
    zipped = zip_product(safe)
    assert find_products(zipped) == [zipped]


def test_a_damaged_zip_is_found_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 and then nothing")
    assert find_products(tmp_path) == [tmp_path / "x.zip"]
    with pytest.raises(BenexpError, match="cannot be read as a zip"):
        open_product(tmp_path / "x.zip")


def test_an_empty_folder_and_a_missing_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="holds no products"):
        find_products(tmp_path)
    with pytest.raises(BenexpError, match="is no folder"):
        find_products(tmp_path / "nowhere")
    with pytest.raises(BenexpError, match="holds no Sentinel-2 bands"):
        open_product(tmp_path)
    with pytest.raises(BenexpError, match="does not exist"):
        open_product(tmp_path / "nowhere")


def test_a_folder_of_products_names_one(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    with pytest.raises(BenexpError, match=f"is not a product but holds 1: give one of them, such as {safe.name}"):
        open_product(tmp_path)


def test_paths_are_made_absolute_so_that_names_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "flat")
    monkeypatch.chdir(folder)
    assert open_product(".").name == "flat"
