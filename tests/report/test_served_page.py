"""viewer.html as `task=serve` shows it: GeoTIFFs by byte ranges, in a browser, against the files."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benexp import classify
from benexp.classes import CLASSES
from benexp.server import FolderServer
from benexp.tasks.serve import made
from tests.products.builders import random_arrays, write_folder
from tests.report.conftest import Visit

SHAPE = (1300, 1100)
"""Several internal tiles along both axes, and two overviews."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tile that has a bad name."""
    product = write_folder(tmp_path_factory.mktemp("product") / "Zürich <b> 1", arrays=random_arrays(SHAPE))
    out = tmp_path_factory.mktemp("out")
    backend = "backend._target_=tests.report.test_viewer_page.Graded"
    classify(product, out, "model=demo", "offset=none", "chunking.stride=120", backend)
    return out


@pytest.fixture
def served(results: Path, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    caplog.set_level(logging.DEBUG, "benexp.server")
    with FolderServer(results, "127.0.0.1", 0, made(results)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Any, served: str) -> Iterator[Any]:
    """The tile's page, reached as a person does, and ready; nothing may go wrong on it, or be asked of others."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    visit = Visit(context.new_page())
    visit.page.goto(served)
    visit.page.get_by_role("link", name="Zürich <b> 1").last.click()
    visit.page.locator("#geotiffs").wait_for(timeout=20_000)
    yield visit.page
    context.close()
    assert visit.problems == []
    assert {
        url.split("/Z")[0].split("/-/")[0].rstrip("/") for url in visit.requests if not url.startswith("data:")
    } == {served.rstrip("/")}


def values(results: Path, layer: str) -> np.ndarray:
    with rasterio.open(next(results.glob(f"*/*_{layer}.tif"))) as raster:
        return np.asarray(raster.read(1))


def settle(page: Any) -> None:
    page.evaluate("new Promise((done) => { map.once('rendercomplete', done); map.render(); })")


def pixel(page: Any, row: int, col: int) -> list[int]:
    """The colour that the map shows at the centre of a pixel, at full zoom."""
    script = """async ([row, col]) => {
      const view = map.getView();
      view.setResolution(data.pixel / 4);
      view.setCenter([data.extent[0] + 10 * (col + 0.5), data.extent[3] - 10 * (row + 0.5)]);
      await new Promise((done) => { map.once('rendercomplete', done); map.render(); });
      const canvas = document.querySelector('#map canvas');
      const at = [canvas.width / 2, canvas.height / 2].map(Math.floor);
      const copy = new OffscreenCanvas(1, 1).getContext('2d');
      copy.drawImage(canvas, -at[0], -at[1]);
      return [...copy.getImageData(0, 0, 1, 1).data];
    }"""
    return list(page.evaluate(script, [int(row), int(col)]))


def test_the_map_shows_the_geotiffs_by_ranges(page: Any, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    page.locator("#swipe").uncheck()
    page.locator("input[name=input][value='']").check(force=True)
    ids = values(results, "class")
    for row, col in np.random.default_rng(3).integers((0, 0), SHAPE, (12, 2)):
        assert pixel(page, row, col) == [*CLASSES[ids[row, col]].rgb, 255], (row, col)
    page.keyboard.press("4")
    settle(page)
    lines = [record.getMessage() for when in ("setup", "call") for record in caplog.get_records(when)]
    asked = [line for line in lines if ".tif" in line]
    # Never a whole file; what the browser had before may be confirmed.
    assert {line.split('" ')[1].split()[0] for line in asked} <= {"206", "304"}
    assert all(any(name in line and " 206 " in line for line in asked) for name in ("class", "maxprob"))


def test_what_is_drawn_is_the_file_not_the_grid(page: Any, results: Path) -> None:
    page.locator("#swipe").uncheck()
    page.locator("input[name=input][value='']").check(force=True)
    before = pixel(page, 600, 500)
    # The page's own grid, made to say nothing.
    page.evaluate("grid.sample = () => {}")
    assert pixel(page, 600, 500) == before and before[3] == 255
    page.locator("#geotiffs").uncheck()
    assert pixel(page, 600, 500) != before


def test_readings_are_the_files_pixels(page: Any, results: Path) -> None:
    for result in ("class", "confidence", "entropy", "gap"):
        for step in (1, 2, 8):
            check_readings(page, results, result, step)


def check_readings(page: Any, results: Path, result: str, step: int) -> None:
    """Compare a part of the tile, and some beyond it, as the page reads it of every step-th pixel."""
    script = """async ([result, rows, cols]) => {
      const reading = await geotiffs.read(result, rows, cols), found = [];
      reading.sample(rows, cols, (x, y) => found.push([y, x, reading.best()[0], reading.value]));
      return found;
    }"""
    rows, cols = ((np.arange(40) * step + start + step // 2).tolist() for start in (SHAPE[0] - 30 * step, 500))
    found = page.evaluate(script, [result, rows, cols])
    assert len(found) == 30 * 40
    level = {1: None, 2: 0, 8: 1}[step]
    ids, amounts = (
        rasterio.open(next(results.glob(f"*/*_{name}.tif")), **({} if level is None else {"overview_level": level}))
        for name in ("class", {"confidence": "maxprob"}.get(result, result))
    )
    with ids, amounts:
        first, second = ids.read(1), amounts.read(1)
    for y, x, best, value in found:
        row, col = ((at + 0.5) * n / m for at, n, m in zip((rows[y], cols[x]), first.shape, SHAPE, strict=True))
        assert best == first[int(row), int(col)]
        assert value == pytest.approx(1 if result == "class" else second[int(row), int(col)], abs=1e-6)


def test_a_page_on_another_server_shows_its_grid(browser: Any, results: Path) -> None:
    with FolderServer(results, "127.0.0.1", 0, {}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url + "Z%C3%BCrich%20%3Cb%3E%201/viewer.html")
        page.wait_for_selector("html[data-ready]")
        page.wait_for_selector("script[src]", state="attached")
        assert page.locator("#geotiffs").is_hidden()
        assert page.locator("#failure").is_hidden()
        context.close()
        server.shutdown()
        thread.join()
