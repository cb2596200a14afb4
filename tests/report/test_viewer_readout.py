"""The readout of viewer.html in a browser, against the GeoTIFFs beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from benexp.core.classes import NAMES
from benexp.report import embedding
from tests.report.pages import point, read, run, values


def test_the_pointer_reads_what_the_geotiffs_hold(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    page.locator("#swipe").uncheck()  # its divider would be in the way
    ids, best, gap, entropy = (values(made, layer) for layer in ("class", "maxprob", "gap", "entropy"))
    assert len(np.unique(ids)) > 8
    pixels = np.argwhere(ids != 255)
    for row, col in np.random.default_rng(1).choice(pixels, 60):
        point(page, row, col)
        assert read(page)[3] == f"row {row}, col {col}"
        first, second = page.locator("#readout .score").all()
        assert int(first.get_attribute("data-id")) == ids[row, col]
        assert first.locator("span").inner_text() == NAMES[ids[row, col]]
        found = [float(each.locator("data").get_attribute("value")) for each in (first, second)]
        assert found[0] == pytest.approx(best[row, col], abs=1e-5)
        assert found[0] - found[1] == pytest.approx(gap[row, col], abs=2e-5)
        assert float(read(page)[4].split()[1]) == pytest.approx(entropy[row, col], abs=0.0051)
    point(page, 5, 5)
    assert "No class here" in page.locator("#readout").inner_text()


def test_the_readout_keeps_off_the_map_and_nothing_of_where_the_pointer_was(
    made: Path, visit: Callable[..., Any]
) -> None:
    page = visit(made / "viewer.html").page
    page.locator("#swipe").uncheck()
    view, readout = page.locator("#view"), page.locator("#readout")
    before = view.bounding_box()
    point(page, 130, 200)
    assert page.locator("#readout .score").count() == 2 and page.locator("tr.under").count() == 1
    assert view.bounding_box() == before
    assert readout.bounding_box()["y"] >= before["y"] + before["height"]
    page.mouse.move(0, 0)
    assert readout.inner_text().startswith("Point at the map")
    assert page.locator("tr.under").count() == 0


def test_a_rounded_grid_reads_nearly_the_same(
    made: Path, product: Path, tmp_path: Path, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "GRID_BYTES", 3 * 6 * 8 * 19)
    monkeypatch.setattr(embedding, "MASK_BYTES", 60)
    # The saved grid is used again, so that this takes a second.
    (tmp_path / made.name).mkdir()
    shutil.copy(next(made.glob("*_grid.npz")), tmp_path / made.name)
    page = visit(run(product, tmp_path) / "viewer.html").page
    assert page.evaluate("data.grid.exact") is False and page.evaluate("data.grid.maskStep") == 2
    assert page.get_by_text("rounded to 1/65535").is_visible()
    ids, best, gap = (values(made, layer) for layer in ("class", "maxprob", "gap"))
    pixels = np.argwhere((ids != 255) & (gap > 1e-4))[::997].tolist()
    found = page.evaluate(
        "(pixels) => pixels.map(([row, col]) => grid.at(row, col)).map((p) => [p.first, p.probabilities[p.first]])",
        pixels,
    )
    for (row, col), (first, probability) in zip(pixels, found, strict=True):
        assert first == ids[row, col]
        assert probability == pytest.approx(best[row, col], abs=2e-5)


def test_the_pointer_reads_coordinates(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    point(page, 200, 300)
    with rasterio.open(next(made.glob("*_class.tif"))) as raster:
        x, y = raster.xy(200, 300)
        (longitude,), (latitude,) = transform(raster.crs, "EPSG:4326", [x], [y])
    projected, crs, geographic, *_ = read(page)
    east, north = (float(part.split()[0].replace(",", "")) for part in projected.split(", "))
    assert (east, north) == pytest.approx((x, y), abs=5)
    assert [float(part.split("°")[0]) for part in geographic.split(", ")] == pytest.approx(
        [latitude, longitude], abs=1e-4
    )
    assert "° N" in geographic and "° E" in geographic and crs == "EPSG:32633"
