"""A chunk that lies on a torch device and is cut into patches there: it crosses the bus once, as it is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend

if TYPE_CHECKING:
    import torch


def cut_batches(
    backend: Backend,
    chunk: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    origins: npt.NDArray[np.int64],
    device: "str | torch.device",
    memory_format: "torch.memory_format",
) -> Iterator[tuple["torch.Tensor", int]]:
    """Batches of patches [n, bands, p, p] float32 on `device`, each with the number of its patches that were asked for.

    `chunk`, `valid` and `origins` are those of Backend.classify. Where `backend` pads, the last batch repeats its last
    patch up to its batch size.
    """
    import torch

    spec, batch_size = backend.spec, backend.batch_size

    means = torch.tensor(spec.means, dtype=torch.float32, device=device)[:, None, None, None]
    pixels = _upload(chunk, device)
    # Of the two types of 16 bits, torch on CUDA can index but the one with a sign.
    unsigned = pixels.dtype == torch.uint16
    pixels = pixels.view(torch.int16) if unsigned else pixels
    usable = None if valid.all() else _upload(valid, device)
    at = torch.from_numpy(np.ascontiguousarray(origins)).to(device)
    along = torch.arange(spec.patch_size, device=device)
    for group in torch.split(at, batch_size) if len(at) else ():
        count = len(group)
        if backend.pads and count < batch_size:
            group = torch.cat([group, group[-1:].expand(batch_size - count, 2)])
        rows = (group[:, 0, None] + along)[:, :, None]
        cols = (group[:, 1, None] + along)[:, None, :]
        patches = pixels[:, rows, cols]
        patches = (patches.view(torch.uint16) if unsigned else patches).to(torch.float32)
        if usable is not None:
            patches = torch.where(usable[rows, cols], patches, means)
        yield patches.transpose(0, 1).contiguous(memory_format=memory_format), count


def _upload(array: npt.NDArray[Any], device: "str | torch.device") -> "torch.Tensor":
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor
