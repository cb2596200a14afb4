"""Patches cut out of chunks on the CPU, with numpy, and how those of several chunks share a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class StagedChunk:
    """A chunk that is ready for an engine: `pixels` [bands, h, w] in model DN, `valid` [h, w] marks the usable ones."""

    pixels: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    on_device: Any = None
    """The engine's copy of it on the device."""
    opening: int = 0
    """The opening of the engine that `on_device` belongs to, counted."""

    @cached_property
    def all_valid(self) -> bool:
        return bool(self.valid.all())


Part = tuple[StagedChunk, npt.NDArray[np.int64]]
"""A chunk and the origins [n, 2], (row, col) of the upper left pixel, of patches in it."""


def count(parts: Sequence[Part]) -> int:
    """The number of patches."""
    return sum(len(origins) for _, origins in parts)


def split(parts: Sequence[Part], size: int) -> Iterator[list[Part]]:
    """Groups of `size` patches in the order of `parts`, the last one with what is left."""
    group: list[Part] = []
    room = size
    for chunk, origins in parts:
        while len(origins):
            group.append((chunk, origins[:room]))
            origins, room = origins[room:], room - len(group[-1][1])
            if not room:
                yield group
                group, room = [], size
    if group:
        yield group


def needed(part: Part, patch_size: int) -> Part:
    """The part with a copy of only those rows of its chunk that its patches need, so that the chunk can be freed."""
    chunk, origins = part
    if chunk.on_device is not None or not len(origins):
        return part
    top, bottom = int(origins[:, 0].min()), int(origins[:, 0].max()) + patch_size
    kept = StagedChunk(chunk.pixels[:, top:bottom].copy(), chunk.valid[top:bottom].copy())
    return kept, origins - (top, 0)


def cut(parts: Sequence[Part], means: Sequence[float], memory: npt.NDArray[np.float32]) -> None:
    """Put the patches of `parts` into the first places of `memory` [at least n, bands, p, p].

    Pixels that are not valid become the mean of their band.
    """
    size = memory.shape[-1]
    fill = np.asarray(means, np.float32)[:, None, None]
    places = iter(memory)
    for chunk, origins in parts:
        for (row, col), place in zip(origins, places, strict=False):
            place[:] = chunk.pixels[:, row : row + size, col : col + size]
            if not chunk.all_valid:
                np.copyto(place, fill, where=~chunk.valid[row : row + size, col : col + size])
