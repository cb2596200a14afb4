"""Patches out of folders and LMDBs are what a tile reads of them; the metadata says what it lacks."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.evaluation.labelled_patches import open_patches, read_metadata
from benexp.products import open_tile
from tests.products.builders import TEN, random_arrays, write_patch

NAMES = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_{i}" for i in range(3)]


def write_lmdb(folder: Path, values: Mapping[str, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    return folder


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save(dict(arrays))


def write_metadata(path: Path, columns: Mapping[str, Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(dict(columns)), path)
    return path


def holed(seed: int) -> dict[str, np.ndarray]:
    """Random bands, with nodata in one at 10 m and another at 20 m."""
    arrays = random_arrays((120, 120), seed=seed)
    arrays["B03"][:10, 5] = 0
    arrays["B11"][30:, 59] = 0
    return arrays


def test_folder_and_lmdb_give_what_a_tile_reads(tmp_path: Path) -> None:
    for i, name in enumerate(NAMES):
        write_patch(tmp_path / "deep" / f"tile_{i}", name=name, arrays=holed(i))
    stored = {name: packed(holed(i)) for i, name in enumerate(NAMES)}
    other = {"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_75_1": packed({"VV": np.zeros((120, 120), np.float32)})}
    lmdb = open_patches(write_lmdb(tmp_path / "lmdb", stored | other))
    folder = open_patches(tmp_path / "deep")
    assert sorted(folder.names) == sorted(lmdb.names) == NAMES
    bands = TEN[::-1]
    for i, name in enumerate(NAMES):
        with open_tile(tmp_path / "deep" / f"tile_{i}" / name, bands) as tile:
            chunk, valid = tile.read(Window(0, 0, 120, 120))
        assert 0 < (~valid).sum() < 1000
        for patches in (folder, lmdb):
            found = patches.read(name, bands, 120)
            assert found[0].dtype == chunk.dtype
            assert np.array_equal(found[0], chunk)
            assert np.array_equal(found[1], valid)


@pytest.mark.parametrize("kind", ["folder", "lmdb"])
def test_a_missing_band_is_named(tmp_path: Path, kind: str) -> None:
    arrays = random_arrays((120, 120), bands=TEN[:-1])
    if kind == "folder":
        write_patch(tmp_path, name=NAMES[0], arrays=arrays)
    else:
        write_lmdb(tmp_path, {NAMES[0]: packed(arrays)})
    with pytest.raises(BenexpError, match=rf"{NAMES[0]} lacks the bands B12 \(found: .*B02"):
        open_patches(tmp_path).read(NAMES[0], TEN, 120)


def test_a_damaged_value_is_an_error(tmp_path: Path) -> None:
    patches = open_patches(write_lmdb(tmp_path, {NAMES[0]: packed(random_arrays((120, 120)))[:5000]}))
    with pytest.raises(BenexpError, match=f"{NAMES[0]} is damaged"):
        patches.read(NAMES[0], TEN, 120)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = write_patch(tmp_path, name=NAMES[0]) / f"{NAMES[0]}_B04.tif"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(BenexpError, match=r"B04\.tif: cannot be read"):
        open_patches(tmp_path).read(NAMES[0], TEN, 120)


@pytest.mark.parametrize("size", [(118, 118), (240, 240)])
def test_a_patch_of_another_size_is_an_error(tmp_path: Path, size: tuple[int, int]) -> None:
    write_patch(tmp_path, name=NAMES[0], arrays=random_arrays(size))
    with pytest.raises(BenexpError, match=f"B02 is uint16 {size[0]}x{size[1]}: a patch is"):
        open_patches(tmp_path).read(NAMES[0], TEN, 120)


def test_what_is_no_place_of_patches(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="does not exist: give a folder"):
        open_patches(tmp_path / "none")
    with pytest.raises(BenexpError, match="holds no patches: give a folder"):
        open_patches(tmp_path)
    (tmp_path / "file").write_text("text")
    pytest.importorskip("lmdb")
    with pytest.raises(BenexpError, match="cannot be read as an LMDB"):
        open_patches(tmp_path / "file")


def test_the_same_patch_twice_is_an_error(tmp_path: Path) -> None:
    for below in ("a", "b"):
        write_patch(tmp_path / below, name=NAMES[0])
    with pytest.raises(BenexpError, match="has .* twice"):
        open_patches(tmp_path)


def test_metadata(tmp_path: Path) -> None:
    columns = {"patch_id": NAMES[:2], "labels": [["Pastures", "Arable land"], None], "split": ["test", "train"]}
    path = write_metadata(tmp_path / "m.parquet", columns)
    rows = read_metadata(path, with_split=True)
    assert rows[NAMES[0]] == (("Pastures", "Arable land"), "test")
    assert rows[NAMES[1]] == ((), "train")
    assert read_metadata(path, with_split=False)[NAMES[0]].split is None


def test_metadata_that_is_none(tmp_path: Path) -> None:
    path = write_metadata(tmp_path / "m.parquet", {"patch_id": NAMES[:1], "labels": [["Pastures"]]})
    with pytest.raises(BenexpError, match=r"lacks the columns split \(found: patch_id, labels\)"):
        read_metadata(path, with_split=True)
    path = write_metadata(tmp_path / "m.parquet", {"patch_id": NAMES[:1] * 2, "labels": [["Pastures"]] * 2})
    with pytest.raises(BenexpError, match=f"has {NAMES[0]} twice"):
        read_metadata(path, with_split=False)
    (tmp_path / "text").write_text("patch_id,labels")
    for name in ("text", "none"):
        with pytest.raises(BenexpError, match=rf"{name}: cannot be read as a parquet file"):
            read_metadata(tmp_path / name, with_split=False)


@pytest.mark.parametrize("missing", ["pyarrow", "lmdb"])
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(BenexpError, match=rf"needs {missing}: pip install 'benexp\[evaluate\]'"):
        open_patches(tmp_path) if missing == "lmdb" else read_metadata(tmp_path / "m.parquet", with_split=True)
