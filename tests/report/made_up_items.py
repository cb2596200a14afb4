"""Made-up tiles with all their files, and the STAC items over them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine

from benexp.core.classes import NAMES
from benexp.core.window import Window
from benexp.mapping.cog import RasterWriter
from benexp.mapping.layers import build
from benexp.models.spec import ModelSpec
from benexp.records.run import RunRecord
from benexp.records.storage import write_record
from benexp.report.stac import item_name, write_item
from tests.records.builders import run_record

TILE = 'S2A_a "b" <script> Zürich'
SENSED = "2023-06-15T10:30:07.000Z"
TRANSFORM = (10.0, 0.0, 600000.0, 0.0, -10.0, 5700000.0)
LAYERS = build({"names": ["class", "entropy", "probs", "multilabel"], "probs_dtype": "uint16"}, NAMES)


def record_of(tile: str = TILE, **more: Any) -> RunRecord:
    place: dict[str, Any] = {"crs": "EPSG:32631", "shape": (70, 50), "transform": TRANSFORM}
    backend = {"engine": "onnxruntime 1.31.1", "precision": "fp32", "threads": 4}
    return run_record(tile=tile, folder=tile, **{**place, "backend": backend, "sensed": SENSED, **more})


def write_tile(above: Path, spec: ModelSpec, tile: str = TILE, up: bool = True, **more: Any) -> dict[str, Any]:
    """Write a tile's rasters, its record and the item over them; the item."""
    folder = above / tile
    folder.mkdir(exist_ok=True)
    files = []
    for layer in LAYERS:
        path = folder / f"{tile}_{layer.name}.tif"
        place = {"crs": CRS.from_epsg(32631), "transform": Affine(*TRANSFORM)}
        with RasterWriter(path, layer, shape=(70, 50), **place, tags={}, class_names=NAMES) as writer:
            writer.write(np.full((layer.bands, 70, 50), 3, layer.dtype), Window(0, 0, 70, 50))
            writer.finish()
            writer.publish()
            files += writer.files
    names = ("areas.csv", f"{tile}_classmap.json", "preview.png", "viewer.html", f"{tile}_grid.npz")
    write_record(folder / "run.json", record_of(tile, **more))
    path = folder / item_name(tile)
    write_item(path, record_of(tile, **more), spec, [*files, *(folder / name for name in names)], up)
    item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return item
