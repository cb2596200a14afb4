from pathlib import Path

import numpy as np
import pytest

from benexp.core.window import Window
from benexp.products import open_product, open_tile
from tests.products.builders import TEN, random_arrays, upsample, write_folder, write_patch

DATA = Path(__file__).parents[2].parent / "shared" / "data"

NAMES = [
    "S2A_MSIL2A_20170613T101031_87_48",
    "S2B_MSIL2A_20170924T93020_69_24",
    "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
def test_patches_of_both_versions(tmp_path: Path, name: str, suffix: str) -> None:
    with open_tile(write_patch(tmp_path, name=name, suffix=suffix), TEN) as tile:
        assert (tile.name, tile.level, tile.shape) == (name, "patch", (120, 120))
        assert tile.offsets == dict.fromkeys(TEN, 0)
        chunk, valid = tile.read(Window(0, 0, 120, 120))
    assert valid.all()
    expected = [upsample(array, (120, 120)) for array in random_arrays((120, 120)).values()]
    assert np.array_equal(chunk, np.stack(expected))


def test_a_renamed_folder_is_still_a_patch(tmp_path: Path) -> None:
    patch = write_patch(tmp_path)
    assert open_product(patch.rename(tmp_path / "renamed")).level == "patch"


def test_a_scene_of_the_same_marking_is_none(tmp_path: Path) -> None:
    name = "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543"
    assert open_product(write_folder(tmp_path / name, pattern=name + "_{band}.tif")).level == "folder"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_real_patches() -> None:
    folders = [
        *sorted((DATA / "bigearthnet-v1" / "BigEarthNet-S2-Example").iterdir()),
        *sorted((DATA / "bigearthnet-v2" / "BigEarthNet-S2").glob("*/*")),
        *sorted((DATA / "model-card-patches" / "S2").iterdir()),
    ]
    assert len(folders) == 8
    for folder in folders:
        with open_tile(folder, TEN) as tile:
            assert tile.level == "patch"
            assert tile.read(Window(0, 0, 120, 120))[1].all()
