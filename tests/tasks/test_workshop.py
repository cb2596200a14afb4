"""What workers are given, and what they send back."""

import pickle
import zlib

import numpy as np
import pytest

from benexp.tasks.workshop import Parcel, on_its_gpu


def test_a_parcel_is_small_and_holds_every_bit() -> None:
    valid = np.ones((2108, 2101), bool)
    valid[:700, :333] = False
    probabilities = np.random.default_rng(0).random((34, 34, 19), np.float32)
    bits = zlib.compress(np.packbits(valid, axis=1).tobytes(), 1)
    parcel = Parcel(probabilities, np.ones((34, 34), bool), bits, np.zeros((10, 202), np.int64), {}, {})
    assert len(pickle.dumps(parcel)) < 120_000
    assert np.array_equal(parcel.answers(valid.shape).valid, valid)


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
    monkeypatch.setattr(
        "benexp.tasks.workshop.gpu", lambda name: object() if int(name.partition(":")[2]) < there else None
    )
    assert on_its_gpu({"device": device}, number) == taken
