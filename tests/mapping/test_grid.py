"""Patch positions, chunks and the saved grid."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benexp.core.errors import BenexpError
from benexp.mapping.grid import PatchGrid, ProbabilityGrid, positions, valid_share
from tests.records.builders import grid_origin


@pytest.mark.parametrize(
    ("length", "patch_size", "stride", "expected"),
    [
        (120, 120, 60, [0]),
        (121, 120, 60, [0, 1]),
        (240, 120, 60, [0, 60, 120]),
        (250, 120, 60, [0, 60, 120, 130]),
        (250, 120, 120, [0, 120, 130]),
        (300, 120, 70, [0, 70, 140, 180]),
    ],
)
def test_positions(length: int, patch_size: int, stride: int, expected: list[int]) -> None:
    assert positions(length, patch_size, stride).tolist() == expected


def test_a_full_tile_has_182_patches_a_side() -> None:
    assert PatchGrid((10980, 10980), 120, 60).shape == (182, 182)


def test_a_chunk_owns_the_patches_whose_origin_lies_in_it() -> None:
    chunks = PatchGrid((10, 7), patch_size=4, stride=3).chunks(chunk_size=5)
    # Rows 0 3 6, columns 0 3: the square of 5 holds rows 0 and 3, the next one row 6.
    assert [(c.rows, c.cols, tuple(c.window)) for c in chunks] == [
        (slice(0, 2), slice(0, 2), (0, 0, 7, 7)),
        (slice(2, 3), slice(0, 2), (6, 0, 4, 7)),
    ]
    assert chunks[1].origins.tolist() == [[0, 0], [0, 3]]


@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    stride=st.integers(1, 8),
    chunk_size=st.integers(8, 100),
)
def test_chunks_own_each_patch_once(height: int, width: int, stride: int, chunk_size: int) -> None:
    grid = PatchGrid((height, width), 8, stride)
    owners = np.zeros(grid.shape, int)
    for chunk in grid.chunks(chunk_size):
        owners[chunk.rows, chunk.cols] += 1
        assert chunk.window.row + chunk.window.height <= height
        assert chunk.window.col + chunk.window.width <= width
        # A chunk's origins, moved to the tile, are the grid's own positions.
        moved = chunk.origins + np.array(chunk.window[:2])
        assert set(moved[:, 0]) == set(grid.rows[chunk.rows])
        assert set(moved[:, 1]) == set(grid.cols[chunk.cols])
    assert (owners == 1).all()


def test_a_tile_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(BenexpError, match="119 x 500 pixels at 10 m, smaller than one patch of 120 x 120"):
        PatchGrid((500, 119), 120, 60)


def test_gaps_and_tiny_chunks_are_refused() -> None:
    with pytest.raises(BenexpError, match=r"chunking\.stride=121"):
        PatchGrid((500, 500), 120, 121)
    with pytest.raises(BenexpError, match=r"chunking\.chunk_size=119"):
        PatchGrid((500, 500), 120, 60).chunks(119)


def test_valid_share_counts_pixels() -> None:
    valid = np.ones((4, 6), bool)
    valid[:, 5] = False
    valid[0, 0] = False
    shares = valid_share(valid, np.array([[0, 0], [0, 2], [2, 4]]), patch_size=2)
    assert shares.tolist() == [0.75, 1.0, 0.5]


def test_a_saved_grid_comes_back_for_its_own_key_only(tmp_path) -> None:
    patches = PatchGrid((9, 13), 4, 3)
    grid = ProbabilityGrid.empty(patches, 2)
    grid.probabilities[:] = np.random.default_rng(0).random(grid.probabilities.shape)
    grid.classified[0, 1] = True
    grid.valid[3:5, 2:11] = True
    path = tmp_path / "grid.npz"
    grid.save(path, grid_origin("one", warnings=["kept"]))

    assert ProbabilityGrid.load(path, "another", patches, 2) is None
    assert ProbabilityGrid.load(tmp_path / "absent.npz", "one", patches, 2) is None
    loaded, about = ProbabilityGrid.load(path, "one", patches, 2)
    assert about == grid_origin("one", warnings=["kept"])
    assert np.array_equal(loaded.probabilities, grid.probabilities)
    assert np.array_equal(loaded.classified, grid.classified)
    assert np.array_equal(loaded.valid, grid.valid)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.npz"]


def test_a_broken_saved_grid_is_named(tmp_path) -> None:
    path = tmp_path / "grid.npz"
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(BenexpError, match="resume=false"):
        ProbabilityGrid.load(path, "one", PatchGrid((9, 13), 4, 3), 2)


def test_a_saved_grid_that_is_a_pickle_or_a_bomb_is_named(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    patches = PatchGrid((120, 150), 120, 60)
    np.savez(tmp_path / "pickle.npz", about=np.array(Bomb(), dtype=object))
    np.savez_compressed(tmp_path / "bomb.npz", about=np.array(json.dumps({"grid_key": "k"})), more=np.zeros(10_000_000))
    for name, reason in (("pickle", "allow_pickle"), ("bomb", "it unpacks to 80000")):
        with pytest.raises(BenexpError, match=rf"{name}\.npz: not a probability grid \(.*{reason}.*: delete it"):
            ProbabilityGrid.load(tmp_path / f"{name}.npz", "k", patches, 2)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"probabilities": np.full((3, 4, 2), np.nan, np.float32)}, "no probabilities"),
        ({"probabilities": np.full((3, 4, 2), 7, np.float32)}, "no probabilities"),
        ({"probabilities": np.zeros((3, 4, 1), np.float32)}, "another grid or model"),
        ({"probabilities": np.zeros((3, 4), np.float32)}, "another grid or model"),
        ({"probabilities": np.zeros((3, 4, 2))}, "numbers of another kind"),
        ({"classified": np.zeros((3, 4), np.uint8)}, "numbers of another kind"),
        ({"valid": np.zeros((5, 2), np.uint8)}, "another tile"),
        ({"about": np.array("[]")}, "indices"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_saved_grid_that_cannot_be_one_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    patches = PatchGrid((9, 13), 4, 3)
    assert patches.shape == (3, 4)
    path = tmp_path / "grid.npz"
    ProbabilityGrid.empty(patches, 2).save(path, grid_origin("one"))
    with np.load(path) as saved:
        arrays = dict(saved)
    np.savez(path, **arrays | change)
    with pytest.raises(BenexpError, match=rf"grid\.npz: not a probability grid \(.*{reason}.*resume=false"):
        ProbabilityGrid.load(path, "one", patches, 2)
