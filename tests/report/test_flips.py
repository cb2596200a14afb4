from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benexp.core.classes import CLASSES, NODATA
from benexp.mapping.differences import Differences
from benexp.report.flips import frequent_changes, write_flips_picture

TIE, BEYOND = (0x1F, 0x5F, 0xD0), (0xD0, 0x02, 0x1B)


def differences(marks: np.ndarray) -> Differences:
    flips = np.zeros((19, 19), np.int64)
    flips[1, 2], flips[10, 14] = marks[0].sum(), marks[1].sum()
    return Differences(0.1, 1_000_000, flips, int(marks[0].sum()), marks, 0.2, 0.01, 0.1)


def panel(folder: Path, marks: np.ndarray, class_id: int = 3) -> np.ndarray:
    """The map's pixels [1024, 1024, 3] in a picture of one class with a strip of nodata."""
    class_ids = np.full(marks.shape[1:], class_id, np.uint8)
    class_ids[:, :10] = NODATA
    path = folder / "x_flips.png"
    write_flips_picture(path, class_ids, differences(marks), CLASSES, "x against y", "Zürich", [("Flips", "3")])
    assert [file.name for file in folder.iterdir()] == ["x_flips.png"]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))[150 : 150 + 1024, 40 : 40 + 1024]


def coloured(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (pixels == colour).all(-1)


@pytest.mark.parametrize("size", [64, 600, 1024])
def test_a_single_pixel_is_seen_where_it_is(size: int, tmp_path: Path) -> None:
    marks = np.zeros((2, size, size), np.int64)
    marks[0, size // 4, size // 2] = 1
    marks[1, size // 2, size // 4] = 1
    pixels = panel(tmp_path, marks)
    for colour, centre in ((TIE, (256, 512)), (BEYOND, (512, 256))):
        rows, cols = np.nonzero(coloured(pixels, colour))
        assert 9 <= len(rows) <= 500
        scale = 1024 / size
        assert abs(rows.mean() - centre[0] - scale / 2) < 2
        assert abs(cols.mean() - centre[1] - scale / 2) < 2


def test_many_marks_do_not_grow_over_what_is_between_them(tmp_path: Path) -> None:
    marks = np.zeros((2, 1024, 1024), np.int64)
    marks[0, ::4, ::4] = 1
    assert coloured(panel(tmp_path, marks), TIE).mean() == pytest.approx(1 / 16)


def test_without_a_flip_there_is_the_dimmed_map_alone(tmp_path: Path) -> None:
    pixels = panel(tmp_path, np.zeros((2, 256, 256), np.int64))
    assert (pixels[:, :39] == 255).all()
    rest = pixels[:, 41:].reshape(-1, 3)
    assert (rest == rest[0]).all()
    # Paler than the class, and of its hue.
    assert rest[0][1] == 255 > rest[0][0] > CLASSES[3].rgb[0]


def test_changes_come_with_the_most_frequent_first() -> None:
    marks = np.zeros((2, 4, 4), np.int64)
    marks[0, 0, 0], marks[1, 0, 0] = 3, 7
    assert frequent_changes(differences(marks)) == [(10, 14, 7), (1, 2, 3)]


def test_long_names_of_classes_are_whole_and_stay_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, str]] = []
    text = ImageDraw.ImageDraw.text

    def note(self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, *more: Any) -> None:
        drawn.append((place[1], words))
        text(self, place, words, *more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    flips = np.zeros((19, 19), np.int64)
    flips[10, :10] = np.arange(10, 0, -1) * 1_000_000
    marks = np.zeros((2, 64, 64), np.int64)
    found = Differences(0.1, 100_000_000, flips, 0, marks, 0.2, 0.01, 0.1)
    figures = [("Flips per million pixels", "3")] * 7
    write_flips_picture(tmp_path / "x.png", np.zeros((64, 64), np.uint8), found, CLASSES, "x", "y", figures)
    said = " ".join(words for _, words in drawn)
    assert CLASSES[10].name in said
    assert CLASSES[0].name in said
    assert "\u2026" not in said
    assert max(place for place, _ in drawn) < 150 + 1024
