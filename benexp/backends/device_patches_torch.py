"""Chunks on a torch device, and the patches cut out of them there: a chunk crosses the bus once, as it is."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend
from benexp.backends.patches import Part, StagedChunk, count, split

if TYPE_CHECKING:
    import torch


@dataclass
class Windows:
    """A chunk on a device, made ready there when its first patches are cut."""

    pixels: "torch.Tensor"
    """[bands, h, w], as it came."""
    valid: "torch.Tensor | None"
    """[h, w]; None where all are."""
    arrived: Any = None
    """The event of the copy stream after which `pixels` and `valid` are there; None where they are."""
    windows: "torch.Tensor | None" = None
    """A view: what lies at [row, col] is the patch there."""


class Uploader:
    """Brings chunks to a GPU while it works on others: through two pinned buffers in turn, on a stream of its own."""

    def __init__(self, device: "torch.device") -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor | None] = [None, None]
        self._copied: list[Any] = [None, None]
        self._next = 0
        self._turn = threading.Lock()

    def upload(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> Windows:
        import torch

        arrays = [pixels] if valid is None else [pixels, valid]
        # Called within inference mode and, by a thread that reads ahead, without: one buffer does not serve both.
        with self._turn, torch.inference_mode():
            slot, self._next = self._next, 1 - self._next
            if self._copied[slot] is not None:
                # The buffer is the GPU's until the copy out of it is done.
                self._copied[slot].synchronize()
            size = sum(array.nbytes for array in arrays)
            buffer = self._buffers[slot]
            if buffer is None or len(buffer) < size:
                buffer = self._buffers[slot] = self._pinned(size)
            tensors, start = [], 0
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                for array in arrays:
                    tensor = torch.from_numpy(array)
                    pinned = buffer[start : start + array.nbytes].view(tensor.dtype).view(tensor.shape)
                    pinned.copy_(tensor)
                    tensors.append(self._copy(pinned))
                    start += array.nbytes
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record(self._stream)
            self._copied[slot] = arrived
        return Windows(tensors[0], tensors[1] if valid is not None else None, arrived)

    def _pinned(self, size: int) -> "torch.Tensor":
        import torch

        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def _copy(self, pinned: "torch.Tensor") -> "torch.Tensor":
        """Begun, not done."""
        return pinned.to(self._device, non_blocking=True)


def on_device(chunk: StagedChunk, device: "torch.device", uploader: Uploader | None) -> Windows:
    """A chunk on its way to `device`, or, without an `uploader`, there."""
    import torch

    pixels = chunk.pixels if chunk.pixels.dtype == np.uint16 else chunk.pixels.astype(np.float32, copy=False)
    pixels = np.ascontiguousarray(pixels)
    valid = None if chunk.all_valid else np.ascontiguousarray(chunk.valid)
    if uploader:
        return uploader.upload(pixels, valid)
    return Windows(torch.from_numpy(pixels).to(device), None if valid is None else torch.from_numpy(valid).to(device))


def model_dn(found: Windows, means: Sequence[float], patch_size: int) -> "torch.Tensor":
    """[row, col, bands, p, p] float32 in model DN, with the band's mean where a pixel is not valid."""
    import torch

    pixels = found.pixels.to(torch.float32)
    if found.valid is not None:
        fill = torch.tensor(means, dtype=torch.float32, device=pixels.device)[:, None, None]
        pixels = torch.where(found.valid, pixels, fill)
    return pixels.unfold(1, patch_size, 1).unfold(2, patch_size, 1).permute(1, 2, 0, 3, 4)


def normalised(
    found: Windows, means: Sequence[float], stds: Sequence[float], dtype: "torch.dtype", patch_size: int
) -> "torch.Tensor":
    """[row, col, bands, p, p] normalised, of `dtype`, in channels-last memory; 0 where a pixel is not valid.

    Every pixel is normalised and rounded once, not in each patch that it belongs to.
    """
    import torch

    bands, height, width = found.pixels.shape
    device = found.pixels.device
    # On the device: by a number of Python's, CUDA would multiply with its reciprocal, with another rounding.
    mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (means, stds))
    ready = torch.empty((height, width, bands), dtype=dtype, device=device)
    # Band by band, so that no second chunk of fp32 is held.
    for band in range(bands):
        plane = (found.pixels[band].to(torch.float32) - mean[band]).div_(std[band])
        if found.valid is not None:
            plane.masked_fill_(~found.valid, 0)
        ready[:, :, band] = plane
    return ready.unfold(0, patch_size, 1).unfold(1, patch_size, 1)


def cut_batches(
    backend: Backend,
    parts: Sequence[Part],
    device: "torch.device",
    ready: Callable[[Windows], "torch.Tensor"],
    *,
    channels_last: bool,
) -> Iterator[tuple[Callable[[], "torch.Tensor"], int]]:
    """For every batch of `parts`, what cuts its patches [n, bands, p, p], and how many of them were asked for.

    `ready` makes the windows of a chunk. Where `backend` pads, the last batch repeats its last patch. To be used in the
    stream that the engine works in.
    """
    import torch

    def windows(chunk: StagedChunk) -> "torch.Tensor":
        found: Windows = backend._on_device(chunk)
        if found.windows is None:
            if found.arrived is not None:
                stream = torch.cuda.current_stream(found.pixels.device)
                stream.wait_event(found.arrived)
                for tensor in (found.pixels, found.valid):
                    if tensor is not None:
                        # Else its memory could go to the next upload while this stream still reads it.
                        tensor.record_stream(stream)
            found.windows = ready(found)
        return found.windows

    def cut(group: Sequence[Part], at: torch.Tensor) -> torch.Tensor:
        pieces = []
        for number, (chunk, origins) in enumerate(group, start=1):
            # Padding is cut from the last chunk.
            more = len(origins) if number < len(group) else at.shape[1]
            rows, cols = at[:, :more]
            at = at[:, more:]
            patches = windows(chunk)
            if channels_last:
                # The bands last in memory, as they lie in the chunk.
                pieces.append(patches.permute(0, 1, 3, 4, 2)[rows, cols].permute(0, 3, 1, 2))
            else:
                pieces.append(patches[rows, cols])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    size = backend.at_once
    origins = np.concatenate([origins for _, origins in parts])
    if backend.pads:
        origins = np.concatenate([origins, np.repeat(origins[-1:], -len(origins) % size, axis=0)])
    # All at once: waiting for a copy would let the device run dry between batches.
    places = torch.from_numpy(np.ascontiguousarray(origins.T)).to(device)
    for number, group in enumerate(split(parts, size)):
        yield functools.partial(cut, group, places[:, number * size : (number + 1) * size]), count(group)
