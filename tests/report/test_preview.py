from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benexp.core.classes import CLASSES, NODATA
from benexp.report.preview import write_preview
from tests.records.builders import run_record


def page(folder: Path, class_ids: np.ndarray, title: str = "T33UUP", counts: np.ndarray | None = None) -> np.ndarray:
    """The pixels [h, w, 4] of a preview whose true colour is (10, 20, 30)."""
    rgb = np.empty((3, *class_ids.shape), np.uint8)
    rgb[:] = np.array([10, 20, 30])[:, None, None]
    if counts is None:
        counts = np.bincount(class_ids.ravel(), minlength=256)[:19]
    write_preview(folder / "preview.png", run_record(tile=title), rgb, class_ids != NODATA, class_ids, counts, CLASSES)
    assert [path.name for path in folder.iterdir()] == ["preview.png"]
    with Image.open(folder / "preview.png") as image:
        assert image.mode == "RGBA"
        return np.asarray(image)


def share(pixels: np.ndarray, colour: tuple[int, ...]) -> float:
    return float((pixels == colour).all(axis=-1).mean())


def test_panels_have_true_colour_class_colours_and_transparent_nodata(tmp_path: Path) -> None:
    class_ids = np.full((400, 400), 18, np.uint8)
    class_ids[:, 200:300] = 6
    class_ids[:, 300:] = NODATA
    pixels = page(tmp_path, class_ids)
    assert pixels.shape[1] == 1600
    left, right = pixels[:, :800], pixels[:, 800:]
    assert share(left, (10, 20, 30, 255)) > 0.3
    assert share(right, (10, 20, 30, 255)) == 0
    urban, conifers = share(right, (*CLASSES[18].rgb, 255)), share(right, (*CLASSES[6].rgb, 255))
    assert urban == pytest.approx(2 * conifers, rel=0.02) and urban > 0.2
    for panel in (left, right):
        assert (panel[..., 3] == 0).mean() == pytest.approx(conifers, rel=0.02)


def test_legend_lists_the_classes_present_only(tmp_path: Path) -> None:
    class_ids = np.full((50, 100), 3, np.uint8)
    one = page(tmp_path, class_ids)
    class_ids[0, :5] = np.arange(10, 15)
    six = page(tmp_path, class_ids)
    assert len(six) == len(one) + 2 * 36  # rows of two
    assert share(one, (*CLASSES[12].rgb, 255)) == 0
    assert share(six, (*CLASSES[12].rgb, 255)) > 0


def test_legend_of_a_reduced_map_takes_the_counts_of_the_whole(tmp_path: Path) -> None:
    counts = np.zeros(19, np.int64)
    counts[[3, 12]] = 1_000_000, 1
    pixels = page(tmp_path, np.full((50, 100), 3, np.uint8), counts=counts)
    assert share(pixels, (*CLASSES[12].rgb, 255)) > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2000, 90), (90, 2000)])
def test_any_shape_and_no_class_at_all(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = page(tmp_path, np.full(shape, NODATA, np.uint8), title="Zürich 東京 " + "x" * 300)
    assert pixels.shape[1] == 1600 and len(pixels) < 1200


def test_panels_may_differ_in_pixels(tmp_path: Path) -> None:
    rgb, class_ids = np.zeros((3, 70, 70), np.uint8), np.zeros((69, 71), np.uint8)
    valid, counts = np.ones((70, 70), bool), np.zeros(19, np.int64)
    write_preview(tmp_path / "preview.png", run_record(), rgb, valid, class_ids, counts, CLASSES)


def test_what_it_states_is_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, *more: (texts.append(text), draw(self, at, text, *more))
    )
    page(tmp_path, np.zeros((9, 9), np.uint8))
    assert "True colour, 2023-06-15" in texts
    assert "One answer per 1.2 km patch, every 600 m. Contains modified Copernicus Sentinel data 2023" in texts
    assert "280 of 300 ha classified; no class: 10 ha not valid, 10 ha too few valid pixels around" in texts


def test_same_input_same_bytes(tmp_path: Path) -> None:
    page(tmp_path, np.zeros((9, 9), np.uint8))
    first = (tmp_path / "preview.png").read_bytes()
    page(tmp_path, np.zeros((9, 9), np.uint8))
    assert (tmp_path / "preview.png").read_bytes() == first
