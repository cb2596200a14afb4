"""viewer.html as `task=serve` shows it: GeoTIFFs by byte ranges, in a browser, against the files."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benexp import classify
from benexp.core.classes import CLASSES
from benexp.report import embedding
from benexp.serving.server import FolderServer
from benexp.tasks.serve import made
from tests.browser import Visit
from tests.products.builders import random_arrays, write_folder

SHAPE = (1300, 1100)
"""Several internal tiles along both axes, and two overviews."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tile that has a bad name, and whose page has room for every second patch only."""
    product = write_folder(tmp_path_factory.mktemp("product") / "Zürich <b> 1", arrays=random_arrays(SHAPE))
    out = tmp_path_factory.mktemp("out")
    backend = "backend._target_=tests.report.pages.Graded"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "GRID_BYTES", 6_000)
        classify(product, out, "model=demo", "offset=none", "chunking.stride=60", backend)
    return out


@contextmanager
def serving(folder: Path, files: dict[str, Any]) -> Iterator[str]:
    """The address at which a folder is served."""
    with FolderServer(folder, "127.0.0.1", 0, files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def page(browser: Any, results: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """The tile's page, reached as a person does, and ready; nothing may go wrong on it, or be asked of others."""
    caplog.set_level(logging.DEBUG, "benexp.serving.server")
    with serving(results, made(results)) as url:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        visit = Visit(context.new_page())
        visit.page.goto(url)
        visit.page.get_by_role("link", name="Zürich <b> 1").last.click()
        visit.page.locator("#geotiffs").wait_for(timeout=20_000)
        yield visit.page
        context.close()
    assert visit.problems == []
    assert {
        asked.split("/Z")[0].split("/-/")[0].rstrip("/") for asked in visit.requests if not asked.startswith("data:")
    } == {url.rstrip("/")}


@pytest.fixture
def broken(browser: Any, results: Path, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """A copy of the tile's folder to break, and what opens its page: it may say what went wrong on the console only."""
    shutil.copytree(results, tmp_path / "out")
    folder = tmp_path / "out" / "Zürich <b> 1"
    with serving(tmp_path / "out", made(tmp_path / "out")) as url:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        page = context.new_page()

        def open_page() -> Any:
            page.goto(url + "Z%C3%BCrich%20%3Cb%3E%201/viewer.html")
            page.locator("#geotiffs").wait_for(timeout=20_000)
            page.locator("#swipe").uncheck()
            page.locator("input[name=input][value='']").check(force=True)
            return page

        yield folder, open_page
        assert page.locator("#failure").is_hidden()
        context.close()


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


def read(page: Any, row: int, col: int) -> list[str]:
    """What the readout says of a pixel: its place, the two classes, and how sure the model is; a line for each."""
    script = """async ([row, col]) => {
      await read([data.extent[0] + 10 * (col + 0.5), data.extent[3] - 10 * (row + 0.5)]);
      return [...document.querySelectorAll("#readout p")].map((line) => line.innerText.replaceAll("\\n", " "));
    }"""
    _, where, *found = page.evaluate(script, [int(row), int(col)])
    assert where.endswith(f"row {row}, col {col}")
    return found


def own_pixel(page: Any, row: int, col: int) -> list[int]:
    """The colour that the page's own grid has for a pixel."""
    script = "(at) => [...style.paint(grid, [at[0]], [at[1]]).getContext('2d').getImageData(0, 0, 1, 1).data]"
    return list(page.evaluate(script, [int(row), int(col)]))


def test_the_pointer_reads_the_files_where_the_page_has_fewer_patches(page: Any, results: Path) -> None:
    ids, best, gap, entropy = (values(results, layer) for layer in ("class", "maxprob", "gap", "entropy"))
    other = 0
    for row, col in np.random.default_rng(1).integers((0, 0), SHAPE, (60, 2)):
        first, second, amounts, note = read(page, row, col)
        assert first == f"{CLASSES[ids[row, col]].name} {best[row, col]:.3f}"
        assert second.startswith("≈ ") and second.endswith(f" {best[row, col] - gap[row, col]:.3f}")
        assert amounts == f"entropy {entropy[row, col]:.2f} bits gap {gap[row, col]:.3f}"
        assert note == "≈ by 1 in 2 patches along each axis"
        other += page.evaluate("([row, col]) => grid.at(row, col).first", [int(row), int(col)]) != ids[row, col]
    assert other > 3
    assert read(page, -3, 500) == ["No class here"]
    page.locator("#geotiffs").uncheck()
    assert all("≈ " in line for line in read(page, 600, 500))


def test_places_that_the_pointer_left_are_not_told(page: Any, results: Path) -> None:
    ids = values(results, "class")
    page.evaluate("""() => {
      const show = readout.show.bind(readout), window = geotiffs.window.bind(geotiffs);
      globalThis.told = [];
      readout.show = (...shown) => {
        if (shown[3]) told.push([shown[1], shown[2], shown[3].first]);
        show(...shown);
      };
      const gate = new Promise((open) => { globalThis.open = open; });
      geotiffs.window = async (...asked) => { await gate; return window(...asked); };
      for (const row of [100, 700, 1200]) read([data.extent[0] + 5000, data.extent[3] - 10 * row - 5]);
    }""")
    assert page.locator("#readout .place").count() == 2 and page.locator("#readout .score").count() == 0
    page.evaluate("open()")
    page.locator("#readout .score").first.wait_for()
    assert page.evaluate("told") == [[1200, 500, ids[1200, 500]]]
    page.evaluate("leave()")
    assert page.locator("#readout .score").count() == 0


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_geotiffs_that_fail_later_leave_the_pages_own_grid(how: str, broken: tuple[Path, Callable[[], Any]]) -> None:
    folder, open_page = broken
    page = open_page()
    file = next(folder.glob("*_maxprob.tif"))
    whole = file.read_bytes()
    page.keyboard.press("5")
    settle(page)
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:65536] + bytes(len(whole) - 65536))
    page.keyboard.press("4")
    note = page.locator("#unread")
    note.wait_for()
    assert "_maxprob.tif" in note.inner_text() and "own grid" in note.inner_text()
    assert "browser" not in note.inner_text()
    assert not page.locator("#geotiffs").is_checked()
    assert pixel(page, 600, 500) == own_pixel(page, 600, 500)
    assert all("≈" in text for text in read(page, 600, 500))
    file.write_bytes(whole)
    page.locator("#geotiffs").check()
    note.wait_for(state="hidden")
    assert "≈" not in read(page, 600, 500)[0]


def test_the_pointer_falls_back_to_the_pages_own_grid(broken: tuple[Path, Callable[[], Any]]) -> None:
    folder, open_page = broken
    page = open_page()
    next(folder.glob("*_maxprob.tif")).unlink()
    assert all("≈" in text for text in read(page, 1250, 1050))
    page.locator("#unread").wait_for()
    assert not page.locator("#geotiffs").is_checked()


def test_one_missing_geotiff_is_drawn_from_the_pages_own_grid(
    results: Path, broken: tuple[Path, Callable[[], Any]]
) -> None:
    folder, open_page = broken
    next(folder.glob("*_gap.tif")).unlink()
    page = open_page()
    note, ids = page.locator("#unread"), values(results, "class")
    assert "The gap is drawn from the page's own grid" in note.inner_text() and "_gap.tif" in note.inner_text()
    assert page.locator("#geotiffs").is_checked() and page.locator("#own").is_hidden()
    row, col = next(
        at
        for at in np.argwhere(ids != 255)[::997].tolist()
        if page.evaluate("(at) => grid.at(...at).first", at) != ids[*at]
    )
    assert pixel(page, row, col) == [*CLASSES[ids[row, col]].rgb, 255]
    first, second, amounts, _ = read(page, row, col)
    assert first.startswith(CLASSES[ids[row, col]].name) and "≈" in second and "gap ≈" in amounts
    page.keyboard.press("6")
    assert pixel(page, row, col) == own_pixel(page, row, col) and page.locator("#own").is_visible()


def test_without_the_classes_no_geotiff_is_drawn(broken: tuple[Path, Callable[[], Any]]) -> None:
    folder, open_page = broken
    next(folder.glob("*_class.tif")).write_bytes(b"no TIFF")
    page = open_page()
    assert "_class.tif" in page.locator("#unread").inner_text()
    assert not page.locator("#geotiffs").is_checked()
    assert pixel(page, 600, 500)[3] == 255


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
    with serving(results, {}) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url + "Z%C3%BCrich%20%3Cb%3E%201/viewer.html")
        page.wait_for_selector("html[data-ready]")
        page.wait_for_selector("script[src]", state="attached")
        assert page.locator("#geotiffs").is_hidden()
        assert page.locator("#failure").is_hidden()
        context.close()
