"""A classified product with a bad name, and its page in a browser."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

from benexp import classify
from benexp.backends.base import Backend

SHAPE = (260, 330)
HOSTILE = "Zürich \"5' <script>alert(1)<&"
"""A product's name as bad as a file system takes it; a tile's may hold slashes, too (test_viewer)."""


class Graded(Backend):
    """Answers a mixture of classes that changes over the tile, by the brightness of B02, B03 and B08."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        x, y, z = (patches[:, band].mean((1, 2))[:, None] / 5000 for band in (0, 1, 6))
        i = np.arange(19)
        return (0.5 + 0.45 * np.sin(5 * x * (i + 1) + 3 * y * (i + 2) + z)).astype(np.float32)


def run(product: Path, out: Path) -> Path:
    """Classify the product; the folder of its results."""
    backend = "backend._target_=tests.report.pages.Graded"
    record = classify(product, out, "model=demo", "offset=none", "tracking=none", "chunking.stride=30", backend)
    return out / str(record["tile"])


def values(folder: Path, layer: str) -> np.ndarray:
    with rasterio.open(next(folder.glob(f"*_{layer}.tif"))) as raster:
        return np.asarray(raster.read(1))


def place(page: Any, row: int, col: int) -> tuple[float, float]:
    """The position of a pixel's centre on the screen."""
    script = "([r, c]) => map.getPixelFromCoordinate([data.extent[0] + 10 * (c + .5), data.extent[3] - 10 * (r + .5)])"
    x, y = page.evaluate(script, [int(row), int(col)])
    box = page.locator("#map").bounding_box()
    return box["x"] + x, box["y"] + y


def point(page: Any, row: int, col: int) -> None:
    """Put the pointer on the centre of a pixel."""
    page.mouse.move(*place(page, row, col))


def read(page: Any) -> list[str]:
    """The text of the readout for the place under the pointer, and the certainty shown there."""
    return list(page.locator("#readout .place span").all_inner_texts())


def seen(page: Any, places: list[tuple[float, float]]) -> list[tuple[int, ...]]:
    """The colours at these places of the screen, (r, g, b)."""
    page.mouse.move(0, 0)
    page.evaluate("new Promise((done) => { map.once('rendercomplete', done); map.render(); })")
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return [image.getpixel((int(x), int(y))) for x, y in places]
