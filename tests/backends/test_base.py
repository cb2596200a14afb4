"""What the base class does for every backend: halving, choosing the batch, refusing fallbacks."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from benexp.backends.null import NullBackend
from benexp.backends.patches import StagedChunk
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from tests.backends.test_contract import ORIGINS, SIZE, ArithmeticBackend

Floats = npt.NDArray[np.float32]


class Cramped(ArithmeticBackend):
    """Has memory for three patches at once, and afterwards for none until it is opened anew."""

    room: ClassVar[int] = 3

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.opened: list[int] = []
        self.full = False

    def _open(self) -> None:
        self.opened.append(self.batch_size)
        self.full = False

    def _infer(self, patches: Floats) -> Floats:
        if len(patches) > self.room or self.full:
            self.full = True
            raise MemoryError("no room for patches")
        return super()._infer(patches)


@pytest.fixture(scope="module")
def chunk() -> npt.NDArray[np.uint16]:
    return np.random.default_rng(0).integers(1, 10000, (10, SIZE, SIZE)).astype(np.uint16)


EVERY = np.ones((SIZE, SIZE), bool)


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    chunk: npt.NDArray[np.uint16], small_model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with ArithmeticBackend(small_model, batch_size=16) as roomy:
        expected = roomy.classify(chunk, EVERY, ORIGINS)
    with caplog.at_level(logging.WARNING), Cramped(small_model, batch_size=16) as backend:
        assert backend.opened == [16, 8, 4, 2]
        assert np.array_equal(backend.classify(chunk, EVERY, ORIGINS), expected)
        said = backend.describe()
    assert (said["batch_size"], said["batch_size_asked"]) == (2, 16)
    assert "out of memory with 16 patches at once, going on with 8" in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        "std::bad_alloc",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_engines_word_it_in_their_own_ways(words: str, small_model: ModelSpec) -> None:
    class Short(NullBackend):
        def _infer(self, patches: Floats) -> Floats:
            if len(patches) > 4:
                raise RuntimeError(words)
            return super()._infer(patches)

    with Short(small_model, batch_size=8) as backend:
        assert backend.batch_size == 4


def test_memory_that_ends_in_the_middle_of_a_chunk(chunk: npt.NDArray[np.uint16], small_model: ModelSpec) -> None:
    with ArithmeticBackend(small_model, batch_size=4) as roomy:
        expected = roomy.classify(chunk, EVERY, ORIGINS)
    backend = Cramped(small_model, batch_size=2)
    with backend:
        backend.room = 1  # type: ignore[misc]
        assert np.array_equal(backend.classify(chunk, EVERY, ORIGINS), expected)
    assert backend.opened == [2, 1]


def test_not_even_one_patch_fits(small_model: ModelSpec) -> None:
    class Full(Cramped):
        room: ClassVar[int] = 0

    backend = Full(small_model, batch_size=4)
    with pytest.raises(BenexpError, match=r"Full failed on model small: MemoryError: no room.*not even one patch"):
        backend.open()
    assert backend.opened == [4, 2, 1]
    with pytest.raises(RuntimeError, match="is not open"):
        backend.classify(np.zeros((10, SIZE, SIZE), np.uint16), EVERY, ORIGINS)


def test_the_only_batch_of_a_file_is_not_halved(small_model: ModelSpec, tmp_path: Path) -> None:
    spec = replace(small_model, weights="onnx", path=tmp_path / "of_eight.onnx", batch=8)
    backend = Cramped(spec, batch_size=8)
    with pytest.raises(
        BenexpError, match=r"no room.*: 8 patches .* only batch that .*of_eight\.onnx takes; .*\(export\.batch=\)"
    ):
        backend.open()
    assert backend.opened == [8]


def test_memory_that_does_not_suffice_for_loading(small_model: ModelSpec) -> None:
    class Large(NullBackend):
        closed: ClassVar[int] = 0

        def _open(self) -> None:
            if self.batch_size > 4:
                raise MemoryError

        def _close(self) -> None:
            type(self).closed += 1

    with Large(small_model, batch_size=16) as backend:
        assert backend.batch_size == 4
        # What a failed opening may have taken is given back, too.
        assert Large.closed == 2


def test_other_errors_do_not_halve(small_model: ModelSpec) -> None:
    class Broken(NullBackend):
        def _infer(self, patches: Floats) -> Floats:
            raise ValueError("odd\nand more")

    backend = Broken(small_model, batch_size=16)
    with pytest.raises(BenexpError, match=r"^Broken failed on model small: ValueError: odd"):
        backend.open()
    assert backend.batch_size == 16


@pytest.mark.parametrize("shape", [(1, 19), (4, 1), (19,), (), (4, 5), (3, 19), (5, 19)])
def test_a_batch_of_another_shape_stops(shape: tuple[int, ...], small_model: ModelSpec) -> None:
    class Odd(NullBackend):
        def _infer(self, patches: Floats) -> Floats:
            return np.full(shape, 0.5, np.float32)

    with pytest.raises(BenexpError, match=r"model small answered in shape .*, not \(4, 19\): is it the right file"):
        Odd(small_model, batch_size=4).open()


def test_an_engine_of_a_fixed_batch_is_built_again(small_model: ModelSpec, tmp_path: Path) -> None:
    built = []

    def build(batch: int) -> Path:
        built.append(batch)
        return tmp_path / f"{batch}.engine"

    with Cramped(small_model, build, batch_size=8) as backend:
        assert backend.artefact == tmp_path / "2.engine"
    assert built == [8, 4, 2]


def test_the_batch_is_chosen(
    small_model: ModelSpec,
    chunk: npt.NDArray[np.uint16],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    monkeypatch.setattr("benexp.backends.batching.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Roomier(Cramped):
        room: ClassVar[int] = 9

        def _infer(self, patches: Floats) -> Floats:
            now[0] += 0.2  # whatever the batch: the larger, the faster
            return super()._infer(patches)

    with caplog.at_level(logging.INFO), Roomier(small_model, batch_size="auto") as backend:
        assert backend.classify(chunk, EVERY, ORIGINS).shape == (9, 19)
        said = backend.describe()
    assert (said["batch_size"], said["batch_size_asked"]) == (8, "auto")
    assert "batch_size=auto chose 8" in caplog.text
    assert "16: out of memory" in caplog.text


@pytest.mark.parametrize(("patches", "chosen"), [(0, 32), (16, 16), (33, 32)])
def test_the_batch_is_chosen_by_the_patches_that_are_real(
    patches: int, chosen: int, small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("benexp.backends.batching.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Fixed(Cramped):
        fixed_batch = True
        room: ClassVar[int] = 33

        def _infer(self, patches: Floats) -> Floats:
            now[0] += 0.2  # whatever the batch
            return super()._infer(patches)

    backend = Fixed(small_model, batch_size="auto")
    backend.fit(patches)
    with backend:
        # A second batch of 16, or none: 32 computes 16 patches in the time of 32.
        assert backend.batch_size == chosen


def test_a_fallback_is_refused_or_on_record(small_model: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    class Falling(NullBackend):
        def _open(self) -> None:
            self._fell_back("the moon", "the earth", "pip install rocket")

    with pytest.raises(
        BenexpError, match=r"the moon was asked for, but the earth .*: pip install rocket; .*allow_fallback=true"
    ):
        Falling(small_model).open()
    with Falling(small_model, allow_fallback=True) as backend:
        assert backend.describe()["fallback"] == "the earth in place of the moon"
    assert "running on the earth in place of the moon: pip install rocket" in caplog.text


def test_every_batch_is_timed_for_whoever_asks(chunk: npt.NDArray[np.uint16], small_model: ModelSpec) -> None:
    with ArithmeticBackend(small_model, batch_size=4) as backend:
        assert set(backend.open_seconds) == {"load", "first_batch"}
        seconds: list[float] = []
        backend.on_batch = seconds.append
        backend.classify(chunk, EVERY, np.zeros((9, 2), np.int64))
        backend.on_batch = None
        backend.classify(chunk, EVERY, np.zeros((9, 2), np.int64))
    assert len(seconds) == 3
    assert min(seconds) > 0


def test_patches_are_cut_into_the_memory_that_is_given(chunk: npt.NDArray[np.uint16], small_model: ModelSpec) -> None:
    backend = ArithmeticBackend(small_model, batch_size=4)
    memories = [np.full((4, 10, 120, 120), np.float32(np.nan)) for _ in range(3)]
    left = iter(memories)
    given = list(backend._batches([(StagedChunk(chunk, EVERY), ORIGINS)], lambda: next(left)))
    assert all(batch is memory for (batch, _), memory in zip(given, memories, strict=True))
    answers = np.concatenate([backend._infer(batch)[:count] for batch, count in given])
    with backend:
        assert np.array_equal(backend.classify(chunk, EVERY, ORIGINS), answers)
