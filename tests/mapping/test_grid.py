"""Patch positions, chunks and the saved grid."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.mapping.grid import (
    CLASSIFIED,
    INVALID,
    NOT_ASKED,
    NOT_READ,
    SKIPPED,
    VALID,
    Answers,
    Chunk,
    PatchGrid,
    ProbabilityGrid,
    positions,
    valid_share,
)
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


def test_touching_by_hand() -> None:
    # Patches of 4 at rows and columns 0, 3, 6: they reach to pixels 3, 6 and 9.
    touching = PatchGrid((10, 10), patch_size=4, stride=3).touching
    assert touching(Window(0, 0, 10, 10)) == (slice(0, 3), slice(0, 3))
    assert touching(Window(0, 9, 1, 1)) == (slice(0, 1), slice(2, 3))
    assert touching(Window(3, 4, 1, 2)) == (slice(0, 2), slice(1, 2)), "pixel 3 is of two patches, 4 and 5 are of one"
    assert touching(Window(2, 6, 1, 1)) == (slice(0, 1), slice(1, 3))
    # The last one is moved to the edge, to 7, and overlaps more.
    assert PatchGrid((11, 11), patch_size=4, stride=3).touching(Window(8, 8, 1, 1)) == (slice(2, 4), slice(2, 4))


def test_chunks_hold_the_smallest_rectangle_around_wanted_patches() -> None:
    """Five by five patches of 2 pixels side by side in squares of 4: two by two each, but for the last."""
    patches = PatchGrid((10, 10), patch_size=2, stride=2)
    wanted = np.zeros((5, 5), bool)
    wanted[0, 1] = wanted[1, 1] = True  # the right column of the first square
    wanted[2, 2] = wanted[3, 3] = True  # two corners of the middle one, whose others are read with them
    wanted[4, 4] = True
    chunks = patches.chunks(4, wanted)
    assert [(c.rows, c.cols, tuple(c.window), c.wanted.tolist()) for c in chunks] == [
        (slice(0, 2), slice(1, 2), (0, 2, 4, 2), [True, True]),
        (slice(2, 4), slice(2, 4), (4, 4, 4, 4), [True, False, False, True]),
        (slice(4, 5), slice(4, 5), (8, 8, 2, 2), [True]),
    ]
    assert chunks[0].origins.tolist() == [[0, 0], [2, 0]]
    assert patches.chunks(4, np.zeros((5, 5), bool)) == []


@given(seed=st.integers(0, 1000), stride=st.integers(1, 8), chunk_size=st.integers(8, 100))
def test_chunks_want_each_wanted_patch_once(seed: int, stride: int, chunk_size: int) -> None:
    patches = PatchGrid((61, 47), 8, stride)
    wanted = np.random.default_rng(seed).random(patches.shape) < 0.1
    times = np.zeros(patches.shape, int)
    for chunk in patches.chunks(chunk_size, wanted):
        times[chunk.rows, chunk.cols] += chunk.wanted.reshape(chunk.shape)
    assert np.array_equal(times, wanted)


def answers(chunk: Chunk, value: float, classified: list[list[bool]], valid: list[list[bool]]) -> Answers:
    made = np.array(classified)
    probabilities = np.where(made[..., None], np.float32(value), np.float32(0)).astype(np.float32)
    return Answers(probabilities, made, np.array(valid), np.full((1, 3), int(100 * value)))


def test_a_grid_takes_in_answers_for_wanted_patches_alone() -> None:
    # Patches of 2 pixels side by side: two rows of three.
    patches = PatchGrid((4, 6), patch_size=2, stride=2)
    grid = ProbabilityGrid.empty(patches, 1)
    assert grid.missing(Window(0, 0, 4, 6)).all()
    assert grid.missing(Window(1, 3, 1, 2)).tolist() == [[False, True, True], [False] * 3]

    # The upper left one is classified, the one right of it is not wanted, the one below is skipped.
    wanted = np.array([True, False, True, False])
    chunk = patches.chunk(slice(0, 2), slice(0, 2), wanted)
    seen = [[True] * 4, [True] * 4, [False, False, True, True], [False, True, True, True]]
    grid.add(chunk, answers(chunk, 0.25, [[True, False], [False, False]], seen))
    assert grid.patch_states.tolist() == [[CLASSIFIED, NOT_ASKED, NOT_ASKED], [SKIPPED, NOT_ASKED, NOT_ASKED]]
    assert grid.probabilities[..., 0].tolist() == [[0.25, 0, 0], [0, 0, 0]]
    assert grid.classified.tolist() == [[True, False, False], [False] * 3]
    assert (grid.pixel_states[:2, :4] == VALID).all() and (grid.pixel_states[2, :2] == INVALID).all()
    assert (grid.pixel_states[:, 4:] == NOT_READ).all()
    assert grid.valid(Window(2, 1, 2, 5)).tolist() == [[False, True, True, False, False], [True] * 3 + [False] * 2]
    assert not grid.missing(Window(0, 0, 4, 2)).any()
    assert grid.missing(Window(0, 0, 4, 6)).tolist() == [[False, True, True], [False, True, True]]
    assert grid.tally.tolist() == [[25, 25, 25]]

    # An answer that is known stays as it is, also where it is read again.
    chunk = patches.chunk(slice(0, 1), slice(0, 3), np.array([False, True, True]))
    grid.add(chunk, answers(chunk, 0.5, [[False, True, True]], [[True] * 6] * 2))
    assert grid.probabilities[..., 0].tolist() == [[0.25, 0.5, 0.5], [0, 0, 0]]
    assert grid.tally.tolist() == [[25, 50, 75]], "the lowest, the highest, and the sum"


def test_a_merged_grid_has_the_answers_of_both_and_keeps_its_own() -> None:
    patches = PatchGrid((2, 8), patch_size=2, stride=2)
    one, other = ProbabilityGrid.empty(patches, 1), ProbabilityGrid.empty(patches, 1)
    one.patch_states[0] = [CLASSIFIED, SKIPPED, NOT_ASKED, NOT_ASKED]
    one.probabilities[0, 0] = 0.25
    one.pixel_states[:, :4] = VALID
    one.tally = np.array([[5, 9, 100]])
    other.patch_states[0] = [CLASSIFIED, CLASSIFIED, CLASSIFIED, NOT_ASKED]
    other.probabilities[0, :3] = 0.75
    other.pixel_states[:, 2:6] = INVALID
    other.tally = np.array([[3, 7, 10]])
    one.merge(other)
    assert one.patch_states.tolist() == [[CLASSIFIED, SKIPPED, CLASSIFIED, NOT_ASKED]]
    assert one.probabilities[0, :, 0].tolist() == [0.25, 0, 0.75, 0]
    assert one.pixel_states[0].tolist() == [VALID] * 4 + [INVALID] * 2 + [NOT_READ] * 2
    assert one.tally.tolist() == [[3, 9, 110]]


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
    grid.patch_states[0, :2] = SKIPPED, CLASSIFIED
    grid.pixel_states[2:6] = INVALID
    grid.pixel_states[3:5, 2:11] = VALID
    grid.tally = np.arange(20).reshape(2, 10)
    path = tmp_path / "grid.npz"
    grid.save(path, grid_origin("one", range_patches="kept"))

    assert ProbabilityGrid.load(path, "another", patches, 2) is None
    assert ProbabilityGrid.load(tmp_path / "absent.npz", "one", patches, 2) is None
    loaded, about = ProbabilityGrid.load(path, "one", patches, 2)
    assert about == grid_origin("one", range_patches="kept")
    for name in ("probabilities", "patch_states", "pixel_states", "tally"):
        assert np.array_equal(getattr(loaded, name), getattr(grid, name)), name
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
        ({"patch_states": np.zeros((3, 4), bool)}, "numbers of another kind"),
        ({"patch_states": np.full((3, 4), 3, np.uint8)}, "numbers of another kind"),
        ({"patch_states": np.zeros((3, 3), np.uint8)}, "another grid or model"),
        ({"valid": np.zeros((5, 2), np.uint8)}, "."),
        ({"read": np.zeros((5, 2), np.uint8), "valid": np.zeros((5, 2), np.uint8)}, "another tile"),
        ({"valid": np.full((9, 2), 255, np.uint8)}, "another tile"),
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
