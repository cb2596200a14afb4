"""viewer.html as a person meets it: in a browser, from disk, against the GeoTIFFs beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from benexp import classify
from benexp.backends.base import Backend
from benexp.classes import CLASSES, NAMES
from benexp.report import embedding
from benexp.sidecars import RAMP
from tests.products.builders import random_arrays, write_folder

SHAPE = (260, 330)
HOSTILE = "Zürich \"5' <script>alert(1)<&"
"""A product's name as bad as a file system takes it; a tile's may hold slashes, too (test_viewer)."""


class Graded(Backend):
    """Answers a mixture of classes that changes over the tile, by the brightness of B02, B03 and B08."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        x, y, z = (patches[:, band].mean((1, 2))[:, None] / 5000 for band in (0, 1, 6))
        i = np.arange(19)
        return (0.5 + 0.45 * np.sin(5 * x * (i + 1) + 3 * y * (i + 2) + z)).astype(np.float32)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a bad name, in which brightness changes, and one corner is empty."""
    rows, cols = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    arrays = random_arrays(SHAPE)
    for i, band in enumerate(("B02", "B03", "B08")):
        arrays[band] = (2500 + 2000 * np.sin(rows / (70 + 20 * i) + cols / (90 - 20 * i))).astype(np.uint16)
    arrays["B02"][:60, :70] = 0
    return write_folder(tmp_path_factory.mktemp("product") / HOSTILE, arrays=arrays)


def run(product: Path, out: Path) -> Path:
    """Classify the product; the folder of its results."""
    backend = "backend._target_=tests.report.test_viewer_page.Graded"
    record = classify(product, out, "model=demo", "offset=none", "tracking=none", "chunking.stride=30", backend)
    return out / str(record["tile"])


@pytest.fixture(scope="module")
def made(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(product, tmp_path_factory.mktemp("out"))


def values(folder: Path, layer: str) -> np.ndarray:
    with rasterio.open(next(folder.glob(f"*_{layer}.tif"))) as raster:
        return np.asarray(raster.read(1))


def point(page: Any, row: int, col: int) -> None:
    """Put the pointer on the centre of a pixel."""
    script = "([r, c]) => map.getPixelFromCoordinate([data.extent[0] + 10 * (c + .5), data.extent[3] - 10 * (r + .5)])"
    x, y = page.evaluate(script, [int(row), int(col)])
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)


def read(page: Any) -> list[str]:
    """What the readout says of the place under the pointer, and of how sure the model is there."""
    return list(page.locator("#readout .place span").all_inner_texts())


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


def colours(page: Any, pixels: list[list[int]]) -> list[list[int]]:
    """What the map's tiles at full resolution would show at these pixels, [r, g, b, a]."""
    script = """(pixels) => pixels.map(([row, col]) => {
      const axis = (first) => Array.from({ length: TILE }, (_, i) => first + i);
      const canvas = style.paint(grid, axis(row), axis(col));
      return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data];
    })"""
    return list(page.evaluate(script, pixels))


def test_the_map_has_the_colours_of_the_classes(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    ids = values(made, "class")
    pixels = np.random.default_rng(2).integers((0, 0), SHAPE, (12, 2)).tolist()
    for (row, col), shown in zip(pixels, colours(page, pixels), strict=True):
        assert shown == ([*CLASSES[ids[row, col]].rgb, 255] if ids[row, col] != 255 else [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("result", "layer", "ends"),
    [
        ("confidence", "maxprob", (0, 1)),
        ("entropy", "entropy", (np.log2(19), 0)),
        ("gap", "gap", (0, 1)),
    ],
)
def test_amounts_have_the_colours_of_the_ramp(
    result: str, layer: str, ends: tuple[float, float], made: Path, visit: Callable[..., Any]
) -> None:
    page = visit(made / "viewer.html").page
    page.locator(f"input[value={result}]").check(force=True)
    amounts = values(made, layer)
    pixels = np.argwhere(~np.isnan(amounts))[::5003].tolist()
    ramp = np.array([list(bytes.fromhex(colour[1:])) for colour in RAMP])
    for (row, col), shown in zip(pixels, colours(page, pixels), strict=True):
        along = 4 * (amounts[row, col] - ends[0]) / (ends[1] - ends[0])
        expected = [np.interp(along, range(5), part) for part in ramp.T]
        assert shown == pytest.approx([*expected, 255], abs=2)


def screen(page: Any) -> bytes:
    page.mouse.move(0, 0)
    page.evaluate("new Promise((done) => { map.once('rendercomplete', done); map.render(); })")
    return bytes(page.locator("#map").screenshot())


def test_layers_switch_by_mouse_and_by_key(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    page.locator("#swipe").uncheck()
    seen = {"class": screen(page)}
    for key, name in (("4", "confidence"), ("5", "entropy"), ("6", "gap"), ("0", "")):
        page.keyboard.press(key)
        assert page.locator("input[name=result]:checked").get_attribute("value") == name
        seen[name] = screen(page)
    page.keyboard.press("2")
    seen["infrared"] = screen(page)
    assert len(set(seen.values())) == 6
    page.get_by_text("Class", exact=True).click()
    page.get_by_text("True colour", exact=True).click()
    assert screen(page) == seen["class"]
    page.keyboard.press("[")
    assert page.locator("#opacity").input_value() == "0.9"
    assert screen(page) != seen["class"]


def test_swiping_shows_the_input_on_the_left(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    half = screen(page)
    divider = page.locator("#divider")
    divider.fill("0")
    everything = screen(page)
    divider.fill("1")
    nothing = screen(page)
    page.keyboard.press("s")
    assert divider.is_hidden()
    assert len({half, everything, nothing, screen(page)}) == 4  # the divider itself is in two of them


def test_the_legend_isolates(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    ids = values(made, "class")
    kept, other = np.unique(ids[ids != 255])[[1, 3]]
    pixel = [np.argwhere(ids == which)[3].tolist() for which in (kept, other)]
    button = page.locator(f"[data-class='{kept}'] button")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    chosen, veiled = colours(page, pixel)
    # At a tile's first pixel: the hatching makes it darker.
    assert chosen == [*(int(0.55 * part) for part in CLASSES[kept].rgb), 255]
    assert veiled == [128, 128, 128, 110]
    assert CLASSES[kept].name in page.locator("#histogram").inner_text()
    page.locator(f"[data-class='{other}'] button").click(modifiers=["Shift"])
    assert colours(page, pixel)[1][3] == 255
    page.keyboard.press("Escape")
    assert colours(page, pixel) == [[*CLASSES[which].rgb, 255] for which in (kept, other)]
    assert page.locator("[aria-pressed=true]").count() == 0


def test_legend_and_histogram_tell_the_shares(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    ids, best = values(made, "class"), values(made, "maxprob")
    valid = ids != 255
    for i in range(19):
        cells = page.locator(f"[data-class='{i}'] td").all_inner_texts()
        pixels = int((ids == i).sum())
        assert cells[0] == NAMES[i]
        assert cells[1] == (f"{pixels * 100 / 1e6:,.2f}" if pixels else "")
        assert not pixels or cells[2] in (f"{100 * pixels / valid.sum():.1f} %", "< 0.1 %")
    assert f"Mean {best[valid].mean():.2f}" in page.locator("#histogram").inner_text()


def test_the_keyboard_moves_the_map_and_reads_its_centre(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    centre = page.evaluate("map.getView().getCenter()")
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "map":
        page.keyboard.press("Tab")
    page.keyboard.press("+")
    page.wait_for_timeout(400)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    moved = page.evaluate("map.getView().getCenter()")
    assert moved[0] > centre[0] and moved[1] == pytest.approx(centre[1])
    assert f"{round(moved[0]):,} E" in page.locator("#readout").inner_text()
    assert page.locator("#crosshair").is_visible()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()


def test_a_phone_shows_one_column(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html", width=380, height=800, has_touch=True, color_scheme="dark").page
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    stage, aside = page.locator("#stage").bounding_box(), page.locator("aside").bounding_box()
    assert aside["y"] >= stage["y"] + stage["height"] and aside["width"] > 340
    box = page.locator("#map").bounding_box()
    page.touchscreen.tap(box["x"] + 250, box["y"] + box["height"] / 2)
    assert page.locator("#readout .score").count() == 2


def test_dark_and_light(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html", color_scheme="dark").page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.keyboard.press("t")
    light = page.evaluate(background)
    assert dark != light
    page.get_by_text("Dark / light").click()
    assert page.evaluate(background) == dark


def test_a_bad_name_is_shown_as_it_is(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    assert page.title() == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE
    links = page.locator("section a")
    for i in range(links.count()):
        assert page.evaluate("link => decodeURIComponent(link.pathname)", links.nth(i).element_handle()) == str(
            made / links.nth(i).inner_text()
        )
