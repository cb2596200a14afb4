from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benexp.backends.base import Backend
from benexp.backends.device_patches_onnx import Cutter, upload
from benexp.backends.patches import StagedChunk
from benexp.models.spec import ModelSpec

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZE, HEIGHT, WIDTH = 12, 40, 33
# The last of each row and column is clamped to the edge.
ORIGINS = np.array([(row, col) for row in (0, 7, 28) for col in (0, 5, 21)])
ROWS, COLS = np.mgrid[:HEIGHT, :WIDTH]
MASKS = {
    "wedge": ROWS + COLS > 25,
    "all valid": ROWS >= 0,
    "nothing valid": ROWS < 0,
    "lone pixels": (ROWS * WIDTH + COLS) % 7 == 0,
}


def on_cpu_provider(spec: ModelSpec, chunk: np.ndarray, valid: np.ndarray, count: int) -> np.ndarray:
    def start(graph: bytes) -> Any:
        return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    patches = np.full((count, len(spec.bands), SIZE, SIZE), 7, np.float32)
    found = upload(chunk, valid, SIZE, ("cpu", 0))
    cutter = Cutter(start, spec.means, SIZE, ("cpu", 0))
    # In two parts, as where a batch has patches of two chunks.
    cutter.cut(found, ORIGINS[:2], 2, patches.ctypes.data)
    cutter.cut(found, ORIGINS[2:], count - 2, patches[2:].ctypes.data)
    return patches


@pytest.fixture
def spec(small_model: ModelSpec) -> ModelSpec:
    return replace(small_model, patch_size=SIZE)


def chunk_of(kind: str, bands: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    if kind == "uint16":
        return rng.integers(0, 65536, (bands, HEIGHT, WIDTH), dtype=np.uint16)
    decibels = rng.normal(-12, 9, (bands, HEIGHT, WIDTH)).astype(np.float32)
    decibels[:, ROWS + COLS <= 25] = np.nan
    return decibels


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("mask", MASKS)
def test_it_cuts_as_the_base_class_does(kind: str, mask: str, spec: ModelSpec) -> None:
    chunk, valid = chunk_of(kind, len(spec.bands)), MASKS[mask]
    backend = Backend(spec, batch_size=len(ORIGINS))
    (expected, count), *more = backend._batches([(StagedChunk(chunk, valid), ORIGINS)])
    answer = on_cpu_provider(spec, chunk, valid, len(ORIGINS))
    assert not more
    assert answer.dtype == np.float32
    assert answer.shape == (count, len(spec.bands), SIZE, SIZE)
    # Bits, since the NaN that S1 has where nothing masks it must come through, too.
    assert np.array_equal(answer.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    "laid_out",
    [
        lambda chunk: chunk.astype(np.int16),
        lambda chunk: chunk.astype(np.float64),
        lambda chunk: np.asfortranarray(chunk),
        lambda chunk: np.repeat(chunk, 2, axis=2)[:, :, ::2],
    ],
    ids=["int16", "float64", "fortran", "a view"],
)
def test_chunks_of_any_make(laid_out: Callable[[Any], Any], spec: ModelSpec) -> None:
    chunk = chunk_of("uint16", len(spec.bands)) % 30000
    expected = on_cpu_provider(spec, chunk, MASKS["wedge"], len(ORIGINS))
    assert np.array_equal(on_cpu_provider(spec, laid_out(chunk), MASKS["wedge"], len(ORIGINS)), expected)


def test_a_batch_is_filled_up_with_its_last_patch(spec: ModelSpec) -> None:
    chunk, valid = chunk_of("uint16", len(spec.bands)), MASKS["wedge"]
    answer = on_cpu_provider(spec, chunk, valid, len(ORIGINS) + 3)
    assert len(answer) == len(ORIGINS) + 3
    assert np.array_equal(answer[: len(ORIGINS)], on_cpu_provider(spec, chunk, valid, len(ORIGINS)))
    assert all(np.array_equal(patch, answer[len(ORIGINS) - 1]) for patch in answer[len(ORIGINS) :])
