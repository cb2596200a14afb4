"""A picture of where two maps differ: the reference's map, dimmed, with the pixels marked whose class is another."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from benexp.core.classes import LandCover
from benexp.core.files import replacing
from benexp.mapping.differences import BEYOND, FLIPS, TIE, Differences
from benexp.report.drawing import FRAME, INK, PAPER, QUIET, coloured, fitted, font, wrapped

_PANEL = 1024
_COLUMN = 480
_MARGIN = 40
_TOP = 150
_ROW = 34
_SWATCH = 22
_LINE = 26
_DIM = 0.72
"""The share of paper in the colours of the map (0 to 1)."""
_FAINTEST = 0.5
"""The opacity of the faintest mark (0 to 1): that of a single pixel among the hundreds in a cell of the picture."""
_CHANGES = 8


def write_flips_picture(
    path: Path,
    class_ids: npt.NDArray[np.uint8],
    differences: Differences,
    classes: Sequence[LandCover],
    title: str,
    subtitle: str,
    figures: Sequence[tuple[str, str]],
) -> None:
    """One panel and, beside it, `figures` (name and value), the legend, and the most frequent changes of class.

    `class_ids` [h, w] is the reduced map of the reference, on whose cells `differences.marks` are counted.
    """
    panel = _panel(class_ids, differences, classes)
    page = Image.new("RGB", (2 * _MARGIN + _PANEL + _MARGIN + _COLUMN, _TOP + _PANEL + _MARGIN), PAPER[:3])
    draw = ImageDraw.Draw(page)
    room = page.width - 2 * _MARGIN
    draw.text((_MARGIN, 30), fitted(title, 40, room), INK, font(40))
    draw.text((_MARGIN, 94), fitted(subtitle, 24, room), QUIET, font(24))
    page.paste(panel, (_MARGIN, _TOP))
    draw.rectangle((_MARGIN - 1, _TOP - 1, _MARGIN + panel.width, _TOP + panel.height), outline=FRAME)
    y = _TOP
    left, right = 2 * _MARGIN + _PANEL, page.width - _MARGIN
    for name, value in figures:
        draw.text((left, y), name, QUIET, font(22))
        draw.text((right, y), value, INK, font(22), "ra")
        y += _ROW
    y = _legend(draw, left, y + _ROW, differences)
    _changes(draw, left, right, y + _ROW, page.height - _MARGIN // 2, differences, classes)
    with replacing(path) as temporary:
        page.save(temporary, optimize=True)


def _panel(class_ids: npt.NDArray[np.uint8], differences: Differences, classes: Sequence[LandCover]) -> Image.Image:
    """The dimmed map under the marks, as long as there is room for."""
    height, width = class_ids.shape
    factor = _PANEL / max(height, width)
    paper = Image.new("RGBA", (width, height), PAPER)
    paper.alpha_composite(coloured(class_ids, classes))
    picture = Image.blend(paper.convert("RGB"), Image.new("RGB", (width, height), PAPER[:3]), _DIM)
    size = _mark_size(differences.marks, factor)
    for kind, counts in zip((TIE, BEYOND), differences.marks, strict=True):
        # Red over blue: what matters more stays visible.
        strength = np.sqrt(counts / max(1, counts.max()))
        mask = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * strength, 0)
        marks = Image.fromarray(np.rint(255 * mask).astype(np.uint8), "L").filter(ImageFilter.MaxFilter(size))
        picture.paste(FLIPS.categories[kind][1], mask=marks)
    return picture.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.NEAREST)


def _mark_size(marks: npt.NDArray[np.int64], factor: float) -> int:
    """The side of a mark in cells, odd: five pixels of the picture where marks are rare, one where they are many."""
    share = float(marks.any(axis=0).mean())
    pixels = 5 if share < 0.001 else 3 if share < 0.02 else 1
    return math.ceil(pixels / factor) | 1


def _legend(draw: ImageDraw.ImageDraw, left: int, y: int, differences: Differences) -> int:
    flips = int(differences.flips.sum())
    texts = {
        TIE: (f"{differences.ties:,} differ where the reference's", f"two best are within {differences.tolerance:g}"),
        BEYOND: (f"{flips - differences.ties:,} differ beyond such a tie",),
    }
    for kind, lines in texts.items():
        draw.rectangle((left, y + 4, left + _SWATCH, y + 4 + _SWATCH), FLIPS.categories[kind][1], FRAME)
        for line in lines:
            draw.text((left + _SWATCH + 14, y), line, INK, font(20))
            y += _LINE
        y += 10
    if flips:
        draw.text((left, y), "Where they are few, pixels are drawn larger", QUIET, font(18))
    return y + 26


def _changes(
    draw: ImageDraw.ImageDraw,
    left: int,
    right: int,
    y: int,
    bottom: int,
    differences: Differences,
    classes: Sequence[LandCover],
) -> None:
    """The most frequent changes, as many as there is room for, each as the reference's class over the candidate's."""
    changes = frequent_changes(differences)[:_CHANGES]
    draw.text((left, y), "From the reference's class to" if changes else "No pixel changes its class", QUIET, font(22))
    y += _ROW + 4
    for old, new, pixels in changes:
        count = f"{pixels:,}"
        room = right - left - _SWATCH - 30 - int(font(20).getlength(count))
        names = [wrapped(classes[which].name, 20, room) for which in (old, new)]
        if y + _LINE * sum(map(len, names)) > bottom:
            break
        draw.text((right, y + _LINE * len(names[0])), count, INK, font(20), "rm")
        for which, lines in zip((old, new), names, strict=True):
            draw.rectangle((left, y, left + _SWATCH, y + _SWATCH), classes[which].rgb, FRAME)
            for line in lines:
                draw.text((left + _SWATCH + 14, y), line, INK, font(20))
                y += _LINE
        y += 14


def frequent_changes(differences: Differences) -> list[tuple[int, int, int]]:
    """(reference's class, candidate's class, pixels) of every change there is, the most frequent first."""
    pairs = np.argwhere(differences.flips)
    changes = [(int(old), int(new), int(differences.flips[old, new])) for old, new in pairs]
    return sorted(changes, key=lambda change: -change[2])
