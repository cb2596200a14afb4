"""The work of workers, and the results that they send back."""

import pickle
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benexp.execution.distribution import whole_tiles
from benexp.execution.worker_task import ChunkResult, on_its_gpu
from benexp.runs.backend_choice import choose_backend

CUDA = "benexp.backends.torch.TorchBackend"


def test_a_chunk_result_is_small_and_holds_every_bit() -> None:
    valid = np.ones((2108, 2101), bool)
    valid[:700, :333] = False
    probabilities = np.random.default_rng(0).random((34, 34, 19), np.float32)
    bits = zlib.compress(np.packbits(valid, axis=1).tobytes(), 1)
    result = ChunkResult(probabilities, np.ones((34, 34), bool), bits, np.zeros((10, 202), np.int64), {}, {})
    assert len(pickle.dumps(result)) < 120_000
    assert np.array_equal(result.answers(valid.shape).valid, valid)


@pytest.mark.parametrize(
    ("there", "device", "number", "taken"),
    [
        (4, "cuda", 5, {"device": "cuda:1"}),
        (4, "cuda:2", 5, {}),  # named
        (4, "cuda", None, {}),  # others number these workers
        (1, "cuda", 3, {}),
        (0, "cpu", 3, {}),
    ],
)
def test_workers_of_a_machine_take_its_gpus_in_turn(
    there: int, device: str, number: int | None, taken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benexp.execution.worker_task.gpu_count", lambda: there)
    assert on_its_gpu(choose_backend({"_target_": CUDA, "device": device}), number).settings == {
        "_target_": CUDA,
        "device": device,
        **taken,
    }


@pytest.mark.parametrize(
    ("tiles", "workers", "shared"),
    [
        (1, 2, 1),  # 1/2 + 1/4 of a tile's time
        (1, 20, 1),
        (3, 20, 3),  # 3/20 + 3/4
        (4, 20, 0),  # 4/20 + 4/4: longer than one worker takes over each
        (43, 20, 3),
        (40, 20, 0),
        (1, 1, 0),
    ],
)
def test_the_last_tiles_are_shared_where_that_is_sooner_done(tiles: int, workers: int, shared: int) -> None:
    found = [Path(str(number)) for number in range(tiles)]
    pool = SimpleNamespace(workers=workers, shares_chunks=True)
    assert whole_tiles(pool, found) == found[: tiles - shared]  # type: ignore[arg-type]
    pool.shares_chunks = False
    assert whole_tiles(pool, found) == found  # type: ignore[arg-type]
