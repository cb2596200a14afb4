"""What viewer.html holds; test_viewer_page.py opens it in a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest

from benexp.core.classes import CLASSES
from benexp.core.window import Window
from benexp.mapping.grid import CLASSIFIED, INVALID, VALID, PatchGrid, ProbabilityGrid
from benexp.report.embedding import PICTURE_BYTES
from benexp.report.viewer import Picture, write_viewer
from tests.records.builders import model_record, run_record


def empty_grid(shape: tuple[int, int], stride: int = 60) -> ProbabilityGrid:
    return ProbabilityGrid.empty(PatchGrid(shape, 120, stride), 19)


def viewer(
    folder: Path, grid: ProbabilityGrid | None = None, pictures: list[Picture] | None = None, **changes: Any
) -> str:
    raster = folder / "a b#1_class.tif"
    raster.write_bytes(b"\0" * 1_230_000)
    counts = np.zeros(19, np.int64)
    counts[[6, 11]] = 300, 100
    grid = grid or empty_grid((150, 200))
    pictures = pictures or [
        Picture("True colour", "B04, B03, B02", np.zeros((3, 15, 20), np.uint8), np.ones((15, 20), bool)),
        Picture("Infrared", "B08, B04, B03", np.zeros((3, 15, 20), np.uint8), np.ones((15, 20), bool)),
    ]
    record = run_record(**{"shape": grid.patches.tile_shape, **changes})
    area = Window(0, 0, *grid.patches.tile_shape)
    write_viewer(folder / "viewer.html", record, grid, area, pictures, counts, CLASSES, [raster])
    return (folder / "viewer.html").read_text(encoding="utf-8")


def text(html: str) -> str:
    """What there is to read, but for scripts and styles."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_page_tells_what_was_run_and_found(tmp_path: Path) -> None:
    html = viewer(tmp_path)
    shown = text(html)
    assert "Coniferous forest 0.03 75.0 % Marine waters 0.01 25.0 %" in shown
    for fact in (
        "Model resnet50-s2",
        "Weights hub: owner/repo",
        "Revision c0ffee",
        "Backend onnxruntime-cpu",
        "Precision fp32",
        "infer 290.1",
        "33,000 of 33,124",
        "200 x 150: 29,000 valid, 28,000 classified",
        "Result: one answer per 1.2 km patch, every 600 m",
        "Sensed 2023-06-15T10:30:07.000Z",
        "Contains modified Copernicus Sentinel data 2023",
        "No class: not valid 0.10 No class: too few valid pixels around 0.10",
        "1.2 MB",
        "True colour: B04, B03, B02",
    ):
        assert fact in shown
    assert 'href="a%20b%231_class.tif"' in html
    assert "benexp &#39;tile_folder=/data/x y&#39;" in html
    assert "random weights" not in shown


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_nothing_is_loaded_and_only_its_own_scripts_may_run(tmp_path: Path) -> None:
    found = Tags(viewer(tmp_path)).found
    assert not [tag for tag, _ in found if tag in ("link", "iframe", "img", "object")]
    assert not [attributes for _, attributes in found if "src" in attributes]
    policy = next(a["content"] for tag, a in found if tag == "meta" and "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("sha256-") == len([a for tag, a in found if tag == "script" and "type" not in a])


def test_the_library_comes_with_its_licence(tmp_path: Path) -> None:
    html = viewer(tmp_path)
    assert "Copyright 2005-present, OpenLayers Contributors" in html and "sourceMappingURL" not in html


@pytest.mark.parametrize("stride", [60, 30, 10])
def test_a_full_tile_stays_under_15_mb(stride: int, tmp_path: Path) -> None:
    grid = empty_grid((10980, 10980), stride)
    rng = np.random.default_rng(0)
    rng.random(dtype=np.float32, out=grid.probabilities)
    grid.patch_states[:] = CLASSIFIED
    # Worse than any cloud mask: noise at 20 m.
    states = np.where(rng.random((5490, 5490), dtype=np.float32) > 0.5, np.uint8(VALID), np.uint8(INVALID))
    grid.pixel_states[:] = states.repeat(2, 0).repeat(2, 1)
    html = viewer(tmp_path, grid)
    assert len(html.encode()) + 2 * PICTURE_BYTES * 4 / 3 < 15_000_000
    assert ("every third patch" in html) == (stride == 10)


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    script = "</script><script>alert(1)</script>"
    before = Tags(viewer(tmp_path)).found
    html = viewer(tmp_path, tile=script, command=script, model=model_record(name=script, source=script))
    assert [tag for tag, _ in Tags(html).found] == [tag for tag, _ in before]
    assert html.count("&lt;script&gt;alert(1)") == 6  # the title and the model's name twice


def test_random_weights_and_warnings_are_said(tmp_path: Path) -> None:
    html = viewer(
        tmp_path,
        model=model_record(weights="onnx", revision=None, trained=False),
        warnings=["B05 is off"],
    )
    assert "this is not a land-cover map" in html and "B05 is off" in html
    assert "none; sha256 cdcdcdcdcdcdcdcd" in html


def test_a_template_that_asks_for_something_unknown_fails() -> None:
    from benexp.report.page import _environment

    with pytest.raises(jinja2.UndefinedError):
        _environment().from_string("{{ typo }}").render()
