"""What a run would take, without running it: `dry_run=true`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benexp.config import Config
from benexp.grid import PatchGrid
from benexp.layers import Format
from benexp.models.resolve import resolve
from benexp.tasks.inputs import open_input


def plan(product: Path, config: Config, made_layers: Sequence[Format], say: Callable[[str], object]) -> dict[str, Any]:
    """Say what a run would take. Needs neither the model's weights nor a place to write to."""
    bands = config.model.bands
    if config.model.weights == "onnx":
        bands = list(resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size).bands)
    with open_input(product, config, bands) as tile:
        patches = PatchGrid(tile.shape, config.chunking.patch_size, config.chunking.stride)
        chunks = patches.chunks(config.chunking.chunk_size)
        chunk = max(c.window.height * c.window.width for c in chunks) * len(bands) * 2
        height, width = tile.shape
        pixel_bytes = sum(layer.bands * np.dtype(layer.dtype).itemsize for layer in made_layers)
        made = {
            "tile": tile.name,
            "pixels": f"{width} x {height}",
            "patches": patches.shape[0] * patches.shape[1],
            "chunks": len(chunks),
            # Three chunks (being read, waiting, being classified), the decoded blocks, the mask, and the libraries.
            "memory_gb": round((3 * chunk + tile.cache_bytes + height * width) / 1e9 + 0.8, 2),
            "disk_gb": round(height * width * pixel_bytes / 1e9, 2),
        }
    say(
        f"{made['tile']}: {made['pixels']} pixels; {made['patches']} patches; chunks: {made['chunks']}; "
        f"about {made['memory_gb']} GB of memory and the model's; at most {made['disk_gb']} GB on disk"
    )
    return made
