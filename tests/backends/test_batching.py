from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benexp.backends.batching import LIMIT, START, PatchQueue, choose_batch, even_batch, real_share
from benexp.backends.patches import Part, StagedChunk, count


def test_doubles_until_the_gain_is_small() -> None:
    speeds = {4: 10.0, 8: 19.0, 16: 19.9, 32: 40.0}
    # 16 gains 4.7 %: that 32 would gain more is never found out.
    assert choose_batch(speeds.get) == (8, {4: 10.0, 8: 19.0, 16: 19.9})


def test_five_percent_is_enough_to_go_on() -> None:
    assert choose_batch({4: 100.0, 8: 105.0, 16: 105.0}.get)[0] == 8


def test_the_end_of_memory_ends_it() -> None:
    assert choose_batch({4: 10.0, 8: 20.0}.get) == (8, {4: 10.0, 8: 20.0, 16: None})


def test_too_little_memory_for_the_first_size() -> None:
    assert choose_batch(lambda size: None) == (1, {START: None})


def test_it_ends() -> None:
    chosen, rates = choose_batch(float)
    assert chosen == LIMIT == max(rates)


@pytest.mark.parametrize("speed", [9.0, 10.0])
def test_no_gain_at_all(speed: float) -> None:
    assert choose_batch({4: 10.0, 8: speed}.get)[0] == 4


TILES = {60: 182**2, 120: 92**2}
"""Patches of a whole Sentinel-2 tile by stride."""


@pytest.mark.parametrize("stride", TILES)
def test_at_every_batch_up_to_1024_a_tile_is_hardly_padded(stride: int) -> None:
    for asked in range(1, 1025):
        batch = even_batch(TILES[stride], asked)
        assert 0 < batch <= asked
        computed = -(-TILES[stride] // batch) * batch
        assert TILES[stride] / computed >= 0.97, asked


def test_batches_that_fit_are_left_alone() -> None:
    assert [even_batch(TILES[60], size) for size in (1, 8, 32, 256, 512, 1024)] == [1, 8, 32, 256, 512, 1024]
    # Nine batches of 1024 would hold 9216 for 8464 patches; nine of 944 hold 8496.
    assert even_batch(TILES[120], 1024) == 944
    # 29 is no multiple of 8, but ten batches of 32 would hold 320 for 289.
    assert even_batch(289, 32) == 29
    assert [even_batch(patches, 32) for patches in (0, 9, 23, 24, 32)] == [32, 9, 23, 24, 32]


def test_the_real_share_is_that_of_whole_batches() -> None:
    assert [real_share(patches, 4) for patches in (0, 1, 4, 6)] == [1, 0.25, 1, 0.75]


class Recording:
    """Answers the pixel that each patch has in its upper left corner."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.spec: Any = SimpleNamespace(classes=("only",), patch_size=2)
        self.runs: list[int] = []

    def classify_parts(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        self.runs.append(count(parts))
        corners = [chunk.pixels[0, row, col] for chunk, origins in parts for row, col in origins]
        return np.array(corners, np.float32)[:, None]


def chunk_of(first: int, patches: int) -> Part:
    """Patches along the diagonal, whose corners are first, first + 1, ..."""
    pixels = np.zeros((1, 20, 20), np.uint16)
    at = np.arange(patches)
    pixels[0, at, at] = first + at
    return StagedChunk(pixels, np.ones((20, 20), bool)), np.stack([at, at], axis=1)


def test_what_does_not_fill_a_batch_waits_for_the_next_chunk() -> None:
    backend = Recording(4)
    queue = PatchQueue(backend)
    sizes = (3, 0, 2, 9, 0, 1)
    firsts = np.cumsum((0, *sizes))
    done = [
        [answers[:, 0].tolist() for answers in queue.put(chunk_of(f, n))] for f, n in zip(firsts, sizes, strict=False)
    ]
    done.append([answers[:, 0].tolist() for answers in queue.finish()])
    # By hand: 3 wait; 3 wait; of 5 four run; of 1 + 9 eight run; 2 wait; 3 wait; 3 run.
    assert backend.runs == [4, 8, 3]
    assert done == [[], [], [[0, 1, 2], []], [[3, 4]], [], [], [[5, 6, 7, 8, 9, 10, 11, 12, 13], [], [14]]]


def test_a_batch_that_is_halved_meanwhile_changes_what_runs_and_nothing_else() -> None:
    backend = Recording(8)
    queue = PatchQueue(backend)
    done = queue.put(chunk_of(0, 7))
    backend.at_once = 4
    done += queue.put(chunk_of(7, 7)) + queue.finish()
    assert backend.runs == [12, 2]
    assert np.concatenate(done)[:, 0].tolist() == list(range(14))
