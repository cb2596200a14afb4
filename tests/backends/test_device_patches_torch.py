"""Patches on a torch device, here the CPU, and uploads whose copies are late."""

# The fixture comes from fake_cuda.py.
# ruff: noqa: F811

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benexp.backends.base import Backend
from benexp.backends.device_patches_torch import Windows, cut_batches, model_dn, normalised, on_device
from benexp.backends.patches import Part, StagedChunk
from benexp.models.spec import ModelSpec
from tests.backends.fake_cuda import FakeStream, LateUploader, fake_cuda  # noqa: F401

CPU = torch.device("cpu")
SIZE = 12
ROWS, COLS = np.mgrid[:40, :33]
ORIGINS = np.array([(row, col) for row in (0, 7, 28) for col in (0, 5, 21)])


class OnTorch(Backend):
    """Cuts on the CPU as a GPU's backend does."""

    uploader: LateUploader | None = None

    def _upload(self, chunk: StagedChunk) -> Windows:
        return on_device(chunk, CPU, self.uploader)

    def patches(self, parts: list[Part], ready: Any, *, channels_last: bool = False) -> list[torch.Tensor]:
        return [cut() for cut, _ in cut_batches(self, parts, CPU, ready, channels_last=channels_last)]


@pytest.fixture
def spec(small_model: ModelSpec) -> ModelSpec:
    return replace(small_model, patch_size=SIZE)


def chunk_of(seed: int, mask: np.ndarray | None = None) -> StagedChunk:
    pixels = np.random.default_rng(seed).integers(0, 65536, (10, *ROWS.shape), dtype=np.uint16)
    return StagedChunk(pixels, ROWS >= 0 if mask is None else mask)


def expected(spec: ModelSpec, parts: list[Part]) -> list[np.ndarray]:
    return [batch.copy() for batch, _ in Backend(spec, batch_size=4)._batches(parts)]


@pytest.mark.parametrize("mask", [None, ROWS + COLS > 25, ROWS < 0])
def test_model_dn_are_cut_as_on_the_cpu(mask: np.ndarray | None, spec: ModelSpec) -> None:
    parts = [(chunk_of(1, mask), ORIGINS[:7]), (chunk_of(2), ORIGINS[7:])]
    backend = OnTorch(spec, batch_size=4)
    given = backend.patches(parts, lambda found: model_dn(found, spec.means, SIZE))
    right = expected(spec, parts)
    assert [len(batch) for batch in given] == [4, 4, 4]
    for batch, other in zip(given[:2], right[:2], strict=True):
        assert batch.is_contiguous()
        assert np.array_equal(batch.numpy(), other)
    # The last one is filled up with its last patch.
    assert np.array_equal(given[2].numpy(), np.repeat(right[2][:1], 4, axis=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_patches_are_normalised_as_the_classifier_does(dtype: torch.dtype, spec: ModelSpec) -> None:
    parts = [(chunk_of(1, ROWS + COLS > 25), ORIGINS)]
    backend = OnTorch(spec, batch_size=4)
    given = backend.patches(
        parts, lambda found: normalised(found, spec.means, spec.stds, dtype, SIZE), channels_last=True
    )
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (spec.means, spec.stds))
    # Nine patches, four at once: the last batch has one of its own.
    for batch, other, real in zip(given, expected(spec, parts), (4, 4, 1), strict=True):
        assert batch.is_contiguous(memory_format=torch.channels_last)
        right = ((torch.from_numpy(other) - mean) / std).to(dtype)
        assert torch.equal(batch[:real], right[:real])


def test_nothing_is_read_before_it_has_arrived_nor_overwritten_on_its_way(fake_cuda: None, spec: ModelSpec) -> None:
    backend = OnTorch(spec, batch_size=4)
    backend.uploader = LateUploader(CPU)
    chunks = [chunk_of(seed, seed < ROWS + COLS) for seed in range(5)]
    # All are staged before the first is used: five uploads through two buffers.
    for chunk in chunks:
        backend._on_device(chunk)
    parts = [(chunk, ORIGINS[:4]) for chunk in chunks]
    given = backend.patches(parts, lambda found: model_dn(found, spec.means, SIZE))
    for batch, other in zip(given, expected(spec, parts), strict=True):
        assert np.array_equal(batch.numpy(), other)


def test_the_stream_that_reads_a_chunk_holds_its_memory(
    fake_cuda: list[tuple[torch.Tensor, FakeStream]], spec: ModelSpec
) -> None:
    """Else torch would give the memory to the next upload as soon as the chunk is dropped, while it is still read."""
    backend = OnTorch(spec, batch_size=4)
    backend.uploader = LateUploader(CPU)
    masked, whole = chunk_of(1, ROWS + COLS > 25), chunk_of(2)
    parts = [(masked, ORIGINS[:4]), (whole, ORIGINS[:4])]
    backend.patches(parts, lambda found: model_dn(found, spec.means, SIZE))
    working = torch.cuda.current_stream()
    assert all(stream is working for _, stream in fake_cuda)
    held = [id(tensor) for tensor, _ in fake_cuda]
    read = (masked.on_device.pixels, masked.on_device.valid, whole.on_device.pixels)
    assert held == [id(tensor) for tensor in read]


def test_the_stand_in_notices_a_wait_that_is_missing(fake_cuda: None, spec: ModelSpec) -> None:
    backend = OnTorch(spec, batch_size=4)
    backend.uploader = LateUploader(CPU)
    chunk = chunk_of(1)
    backend._on_device(chunk).arrived = None
    (given,) = backend.patches([(chunk, ORIGINS[:4])], lambda found: model_dn(found, spec.means, SIZE))
    assert not np.array_equal(given.numpy(), expected(spec, [(chunk, ORIGINS[:4])])[0])


def test_the_stand_in_notices_a_buffer_that_is_reused_in_flight(fake_cuda: None, spec: ModelSpec) -> None:
    backend = OnTorch(spec, batch_size=4)
    backend.uploader = LateUploader(CPU)
    chunks = [chunk_of(seed) for seed in range(3)]
    for chunk in chunks:
        backend._on_device(chunk)
        backend.uploader._copied = [None, None]
    (given,) = backend.patches([(chunks[0], ORIGINS[:4])], lambda found: model_dn(found, spec.means, SIZE))
    assert not np.array_equal(given.numpy(), expected(spec, [(chunks[0], ORIGINS[:4])])[0])


def test_a_chunk_of_an_engine_that_was_closed_goes_up_again(spec: ModelSpec) -> None:
    backend = OnTorch(spec, batch_size=4)
    chunk = chunk_of(1)
    first = backend._on_device(chunk)
    assert backend._on_device(chunk) is first
    backend._load()
    assert backend._on_device(chunk) is not first


def test_an_upload_during_which_the_engine_is_opened_anew_is_not_used(spec: ModelSpec) -> None:
    class Overtaken(OnTorch):
        def _upload(self, chunk: StagedChunk) -> Windows:
            made = super()._upload(chunk)
            if self._openings == 0:
                self._load()
            return made

    backend = Overtaken(spec, batch_size=4)
    chunk = chunk_of(1)
    first = backend._on_device(chunk)
    second = backend._on_device(chunk)
    assert second is not first
    assert backend._on_device(chunk) is second
