"""viewer.html of a region, in a browser: it reads what the GeoTIFFs beside it hold, and the whole tile's page says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benexp import classify
from benexp.core.classes import NAMES
from tests.products.builders import random_arrays, write_folder
from tests.report.test_viewer_page import COVERED, place, read, values
from tests.tasks.runs import COUNTING, FAST

ROW, COL, HEIGHT, WIDTH = 70, 90, 100, 130


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of the whole tile, and of a region of it."""
    arrays = random_arrays((260, 330))
    for array in arrays.values():
        array[:] = array // 2 + np.linspace(0, 2000, array.shape[1]).astype(np.uint16)
    arrays["B02"][80:90, 100:110] = 0
    product = write_folder(tmp_path_factory.mktemp("product") / "tile", arrays=arrays)
    out = tmp_path_factory.mktemp("out")
    asked = (product, out, *FAST, *COUNTING, "offset=none", "chunking.stride=30")
    classify(*asked)
    region = classify(*asked, f"region.pixels=[{ROW},{COL},{HEIGHT},{WIDTH}]")
    return out / "tile", out / region["folder"]


def test_the_pointer_reads_what_the_geotiffs_hold(pages: tuple[Path, Path], visit: Callable[..., Any]) -> None:
    _, folder = pages
    page = visit(folder / "viewer.html").page
    page.locator("#swipe").uncheck()
    ids, best = values(folder, "class"), values(folder, "maxprob")
    assert ids.shape == (HEIGHT, WIDTH) and len(np.unique(ids)) > 3
    edges = [(0, 65), (HEIGHT - 1, 65), (50, 0), (50, WIDTH - 1)]
    inside = np.random.default_rng(1).choice(np.argwhere(ids != 255), 20).tolist()
    pixels = [pixel for pixel in (*edges, *inside) if not page.evaluate(COVERED, place(page, *pixel))]
    assert len(pixels) > 15
    for row, col in pixels:
        page.mouse.move(*place(page, row, col))
        assert read(page)[3] == f"row {row}, col {col}"
        first = page.locator("#readout .score").first
        assert first.locator("span").inner_text() == NAMES[ids[row, col]]
        assert float(first.locator("data").get_attribute("value")) == pytest.approx(best[row, col], abs=1e-5)
    page.mouse.move(*place(page, 85 - ROW, 105 - COL))
    assert "No class here" in page.locator("#readout").inner_text()


def test_its_page_says_of_a_place_what_that_of_the_whole_says(
    pages: tuple[Path, Path], visit: Callable[..., Any]
) -> None:
    whole, part = (visit(folder / "viewer.html").page for folder in pages)
    script = "(pixels) => pixels.map(([r, c]) => grid.at(r, c)).map((p) => p && [p.first, ...p.probabilities])"
    pixels = [(row, col) for row in range(0, HEIGHT, 9) for col in range(0, WIDTH, 11)]
    found = part.evaluate(script, pixels)
    expected = whole.evaluate(script, [(row + ROW, col + COL) for row, col in pixels])
    for own, other in zip(found, expected, strict=True):
        assert (own is None) == (other is None)
        assert own is None or own == pytest.approx(other, abs=1e-6)
    with rasterio.open(pages[1] / "tile_class.tif") as raster:
        west, south, east, north = raster.bounds
    assert part.evaluate("data.extent") == [west, south, east, north]
    assert f"tile, {HEIGHT} x {WIDTH} pixels from row {ROW}, column {COL}" in part.title()
