"""The key of a saved probability grid: all that its answers depend on."""

from pathlib import Path

from benexp.config.hashing import digest
from benexp.core.installed import installed_version
from benexp.products.tile import Tile
from benexp.runs.plan import RunPlan
from benexp.version import __version__

LEAVE_THE_ANSWERS = ("batch_size", "threads")
"""Settings of a backend that do not change its answers."""


def question(plan: RunPlan, tile: Tile) -> str:
    """sha256 over the settings that decide which answers are asked for, but for the product itself."""
    chunking, backend = plan.chunking, plan.backend
    precision = backend.settings.get("precision")
    return digest(
        {
            "weights": plan.spec.weights_hash,
            "offsets": tile.offsets,
            "mask": sorted(plan.reading.scl_mask),
            "saturated": plan.reading.saturated,
            "stride": chunking.stride,
            "patch_size": chunking.patch_size,
            "min_valid": chunking.min_valid,
            "backend": backend.name,
            "precision": precision,
            "quantization": plan.asked["quantization"] if precision == "int8" else None,
        }
    )


def is_other(tile: Tile, product: str, product_hash: str) -> bool:
    """True of another product with the tile's name; one that was moved, or mended in its place, is the same."""
    return Path(product).resolve() != tile.product.path.resolve() and product_hash != tile.fingerprint


def grid_key(plan: RunPlan, tile: Tile) -> str:
    """sha256 over all that the answers for a tile depend on: a saved grid is reused where its key is the same."""
    backend, chunking, exported = plan.backend, plan.chunking, plan.backend.exported_at
    libraries = backend.kind.libraries
    return digest(
        {
            "input": tile.fingerprint,
            "weights": plan.spec.weights_hash,
            "bands": plan.spec.bands,
            "offsets": tile.offsets,
            "mask": sorted(plan.reading.scl_mask),
            "saturated": plan.reading.saturated,
            "stride": chunking.stride,
            "patch_size": chunking.patch_size,
            "min_valid": chunking.min_valid,
            "backend": {key: value for key, value in backend.settings.items() if key not in LEAVE_THE_ANSWERS},
            "libraries": {name: version for name in libraries if (version := installed_version(name))},
            # Of the file that runs: a tighter one may refuse it.
            "tolerance": plan.tolerances.get(exported) if exported else None,
            "range_patches": plan.range_patches.key if plan.range_patches else None,
            "verified": plan.integrity != "none",
            "version": __version__,
        }
    )
