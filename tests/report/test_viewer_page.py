"""viewer.html as a person meets it: in a browser, from disk, against the GeoTIFFs beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.core.classes import CLASSES, NAMES
from benexp.core.window import Window
from benexp.mapping.grid import CLASSIFIED, INVALID, VALID
from benexp.mapping.styles import RAMP
from benexp.report.viewer import Picture
from tests.report.pages import HOSTILE, SHAPE, place, point, read, seen, values
from tests.report.test_viewer import empty_grid, viewer


def colours(page: Any, pixels: list[list[int]]) -> list[list[int]]:
    """The colours [r, g, b, a] of the map's finest tiles at these pixels."""
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


COVERED = """([x, y]) => [...document.querySelectorAll(".ol-overlaycontainer-stopevent > *")]
  .map((control) => control.getBoundingClientRect())
  .some((box) => x > box.left - 2 && x < box.right + 2 && y > box.top - 2 && y < box.bottom + 2)"""
"""Whether a button or the scale bar lies over a place of the map."""


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
    ids = values(made, "class")
    # Amid their class, and in every part of the tile.
    same = [(ids == np.roll(ids, shift, axis)) & (ids != 255) for axis in (0, 1) for shift in range(-4, 5)]
    amid = np.argwhere(np.all(same, axis=0)[4:-4, 4:-4]) + 4
    spread = amid[:: len(amid) // 40].tolist()
    pixels = [(row, col) for row, col in spread if not page.evaluate(COVERED, place(page, row, col))]
    expected = [CLASSES[ids[row, col]].rgb for row, col in pixels]
    places = [place(page, row, col) for row, col in pixels]
    box = page.locator("#map").bounding_box()
    page.keyboard.press("0")
    below = seen(page, places)
    page.keyboard.press("3")
    for share in (0.35, 0.6):
        page.locator("#divider").fill(str(share))
        at = box["x"] + share * box["width"]
        compared = {"left": 0, "right": 0}
        for (x, _), found, colour, under in zip(places, seen(page, places), expected, below, strict=True):
            if abs(x - at) > 20:  # beside the divider itself
                compared["right" if x > at else "left"] += 1
                assert found == (colour if x > at else under) and colour != under
        assert min(compared.values()) > 5
    page.keyboard.press("s")
    assert page.locator("#divider").is_hidden()
    assert seen(page, places) == expected


def test_the_divider_moves_by_keys(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    divider = page.locator("#divider")
    divider.focus()
    for key, value in (("ArrowRight", "0.52"), ("ArrowLeft", "0.5"), ("ArrowLeft", "0.48"), ("End", "1")):
        page.keyboard.press(key)
        assert divider.input_value() == value


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_data_looks_like_no_class(theme: str, made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html", color_scheme=theme).page
    page.locator("#swipe").uncheck()
    page.locator("input[name=input][value='']").check(force=True)
    corner = [place(page, 15 + 5 * i, 20 + 7 * i) for i in range(5)]
    for colour in seen(page, corner):
        assert min(np.abs(np.subtract(colour, each.rgb)).max() for each in CLASSES) > 40


def test_outlines_part_classes(made: Path, visit: Callable[..., Any]) -> None:
    page = visit(made / "viewer.html").page
    ids = values(made, "class")
    ends = np.argwhere((ids[1:, 1:] != ids[1:, :-1]) & (ids[1:, 1:] != 255) & (ids[1:, :-1] != 255))[::50]
    amid = np.argwhere((ids[1:, 1:] == ids[1:, :-1]) & (ids[1:, 1:] == ids[:-1, 1:]) & (ids[1:, 1:] != 255))[::5000]
    script = """([row, col]) => {
      const axis = (first) => Array.from({ length: TILE }, (_, i) => first + i);
      return [...style.paint(grid, axis(row), axis(col)).getContext("2d").getImageData(1, 1, 1, 1).data];
    }"""
    for outlined in (False, True):
        for pixels in (ends, amid):
            for row, col in pixels:
                own = [*CLASSES[ids[row + 1, col + 1]].rgb, 255]
                found = page.evaluate(script, [int(row), int(col)])
                assert found == ([24, 24, 24, 255] if outlined and pixels is ends else own)
        page.keyboard.press("o")


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


def test_a_full_tile_opens_pans_and_answers(tmp_path: Path, visit: Callable[..., Any]) -> None:
    grid = empty_grid((10980, 10980))
    rng = np.random.default_rng(0)
    rng.random(dtype=np.float32, out=grid.probabilities)
    grid.patch_states[:] = CLASSIFIED
    grid.pixel_states[:] = np.where(rng.random((549, 549)) > 0.2, VALID, INVALID).repeat(20, 0).repeat(20, 1)
    noise = rng.integers(0, 256, (3, 1373, 1373), dtype=np.uint8)
    path = tmp_path / "viewer.html"
    viewer(tmp_path, grid, [Picture(name, "noise", noise, np.ones((1373, 1373), bool)) for name in ("One", "Two")])
    assert path.stat().st_size < 15_000_000
    page = visit(path).page
    page.locator("#swipe").uncheck()
    box = page.locator("#map").bounding_box()
    page.evaluate("map.getView().setResolution(10)")
    west, south = page.evaluate("map.getView().getCenter()")
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 250, steps=5)
    page.wait_for_timeout(300)  # or it would be thrown, and go on
    page.mouse.up()
    x, y = page.evaluate("map.getView().getCenter()")
    assert 1000 < x - west < 2100 and 250 < south - y < 550
    valid = np.argwhere(grid.valid(Window(5500, 5600, 200, 200)))[::4999] + np.array([5500, 5600])
    colours = seen(page, [place(page, row, col) for row, col in valid])
    for (row, col), colour in zip(valid.tolist(), colours, strict=True):
        assert colour == CLASSES[page.evaluate("([row, col]) => grid.at(row, col).first", [row, col])].rgb
        point(page, row, col)
        assert read(page)[3] == f"row {row}, col {col}"


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
