"""Patches of several chunks in one batch, worked out by hand."""

import numpy as np

from benexp.backends.patches import Part, StagedChunk, count, cut, needed, split


def part(value: int, *origins: tuple[int, int], size: int = 6) -> Part:
    """A chunk of one band whose pixel (row, col) is value + 10 row + col."""
    pixels = (value + np.add.outer(10 * np.arange(size), np.arange(size))).astype(np.uint16)[None]
    return StagedChunk(pixels, np.ones((size, size), bool)), np.array(origins, np.int64).reshape(-1, 2)


def test_groups_go_on_from_chunk_to_chunk() -> None:
    first, none, second = part(0, (0, 0), (0, 1), (1, 0)), part(100), part(200, (2, 2), (3, 3))
    groups = list(split([first, none, second], 2))
    assert [[(chunk.pixels[0, 0, 0], origins.tolist()) for chunk, origins in group] for group in groups] == [
        [(0, [[0, 0], [0, 1]])],
        [(0, [[1, 0]]), (200, [[2, 2]])],
        [(200, [[3, 3]])],
    ]
    assert count([first, none, second]) == 5


def test_patches_of_two_chunks_fill_one_buffer() -> None:
    first, second = part(0, (1, 2)), part(200, (0, 0))
    second[0].valid[0, 1] = False
    memory = np.full((3, 1, 2, 2), -1, np.float32)
    cut([first, second], [7.0], memory)
    # The second one's pixel at (0, 1) is not valid: the band's mean.
    assert memory[:, 0].tolist() == [[[12, 13], [22, 23]], [[200, 7], [210, 211]], [[-1, -1], [-1, -1]]]


def test_what_waits_keeps_only_the_rows_that_it_needs() -> None:
    whole = part(0, (2, 1), (3, 0))
    kept, origins = needed(whole, 2)
    assert kept.pixels.shape == (1, 3, 6)
    assert not np.shares_memory(kept.pixels, whole[0].pixels)
    assert origins.tolist() == [[0, 1], [1, 0]]
    before, after = (np.zeros((2, 1, 2, 2), np.float32) for _ in range(2))
    cut([whole], [0.0], before)
    cut([(kept, origins)], [0.0], after)
    assert np.array_equal(before, after)


def test_what_lies_on_a_device_stays_there() -> None:
    whole = part(0, (2, 1))
    whole[0].on_device = "there"
    assert needed(whole, 2) is whole
