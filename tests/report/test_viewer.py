import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest

from benexp.report.viewer import write_viewer

RECORD: dict[str, Any] = {
    "tile": "T33UUP",
    "shape": [10980, 10980],
    "crs": "EPSG:32633",
    "command": "benexp 'tile_folder=/data/x y'",
    "config": {"chunking": {"patch_size": 120, "stride": 60}},
    "map_hash": "ab" * 32,
    "model": {
        "name": "resnet50-s2",
        "weights": "hub",
        "trained": True,
        "source": "owner/repo",
        "revision": "c0ffee",
        "weights_hash": "cd" * 32,
    },
    "backend": {"backend": "OnnxRuntime", "precision": "fp32", "device": "cpu"},
    "patches": {"all": 33124, "classified": 33000},
    "warnings": [],
    "seconds": 304.25,
    "stage_seconds": {"read": 43.2, "infer": 290.1},
}


def viewer(folder: Path, **changes: Any) -> str:
    preview = folder / "preview.png"
    preview.write_bytes(b"not really a PNG")
    raster = folder / "a b#1_class.tif"
    raster.write_bytes(b"\0" * 1_230_000)
    counts = np.zeros(19, np.int64)
    counts[[6, 11]] = 300, 100
    write_viewer(folder / "viewer.html", {**RECORD, **changes}, preview, counts, 100, [raster])
    return (folder / "viewer.html").read_text(encoding="utf-8")


def test_page_tells_what_was_run_and_found(tmp_path: Path) -> None:
    html = viewer(tmp_path)
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "Coniferous forest 3.0 75.0 % Marine waters 1.0 25.0 %" in text
    for fact in (
        "Model resnet50-s2",
        "Weights hub: owner/repo",
        "Revision c0ffee",
        "Backend OnnxRuntime",
        "Precision fp32",
        "infer 290.1",
        "33,000 of 33,124",
    ):
        assert fact in text
    assert "1.23 MB" in text
    assert 'href="a%20b%231_class.tif"' in html
    assert "benexp &#39;tile_folder=/data/x y&#39;" in html
    assert "random weights" not in html and "Pastures" not in html


def test_preview_is_inside_and_nothing_is_loaded(tmp_path: Path) -> None:
    class Links(HTMLParser):
        loaded: list[str | None]

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe")
            self.loaded.extend(value for name, value in attributes if name == "src")

    parser = Links()
    parser.loaded = []
    parser.feed(viewer(tmp_path))
    assert parser.loaded == ["data:image/png;base64," + base64.b64encode(b"not really a PNG").decode()]


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    html = viewer(tmp_path, tile=script, warnings=[script], command=script, crs=script)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 5  # the title twice


def test_random_weights_and_warnings_are_said(tmp_path: Path) -> None:
    html = viewer(
        tmp_path,
        model={**RECORD["model"], "weights": "onnx", "revision": None, "trained": False},
        warnings=["B05 is off"],
    )
    assert "this is not a land-cover map" in html and "B05 is off" in html
    assert "none; sha256 cdcdcdcdcdcdcdcd" in html


def test_a_template_that_asks_for_something_unknown_fails() -> None:
    from benexp.report.viewer import _environment

    with pytest.raises(jinja2.UndefinedError):
        _environment().from_string("{{ typo }}").render()
