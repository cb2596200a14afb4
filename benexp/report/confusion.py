"""A picture of a confusion matrix: where the pixels of each class of the reference went in the map."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benexp.core.classes import LandCover
from benexp.core.files import replacing
from benexp.measure.accuracy import MapAccuracy
from benexp.report.drawing import FRAME, INK, PAPER, QUIET, fitted, font

_MARGIN = 40
_CELL = 64
_NAMES = 440
_SWATCH = 22
_COLUMN = 96
_TOP = 240
_HEAD = 330
"""Room for the names above the columns."""
_FOOT = 60
_GRID = (226, 230, 233, 255)
_RIGHT = (0, 104, 84)
_WRONG = (196, 62, 36)
"""The colours of full cells: `_RIGHT` on the diagonal, `_WRONG` off it."""
_FIGURES = ("F1", "IoU", "pixels")


def write_confusion_picture(
    path: Path,
    accuracy: MapAccuracy,
    classes: Sequence[LandCover],
    title: str,
    subtitle: str,
    figures: Sequence[tuple[str, str]],
) -> None:
    """The matrix of the classes present, each row as shares of the reference's class; F1, IoU, pixels beside.

    `figures` (name and value) are those of the whole map.
    """
    present = [int(i) for i in accuracy.present]
    side = len(present) * _CELL
    left, top = _MARGIN + _NAMES, _TOP + _HEAD
    width = max(left + side + len(_FIGURES) * _COLUMN + _MARGIN + 20, 1320)
    page = Image.new("RGB", (width, top + side + _FOOT + _MARGIN), PAPER[:3])
    draw = ImageDraw.Draw(page)
    room = width - 2 * _MARGIN
    draw.text((_MARGIN, 30), fitted(title, 40, room), INK, font(40))
    draw.text((_MARGIN, 88), fitted(subtitle, 24, room), QUIET, font(24))
    step = room // len(figures)
    for i, (name, value) in enumerate(figures):
        draw.text((_MARGIN + i * step, 140), value, INK, font(36))
        draw.text((_MARGIN + i * step, 186), fitted(name, 20, step - 16), QUIET, font(20))

    draw.text((_MARGIN, top - 34), "Reference", QUIET, font(22))
    draw.text((_MARGIN, top - 64), "Map, in columns; each row sums to 100 %", QUIET, font(18))
    totals = accuracy.confusion.sum(axis=1)
    for n, i in enumerate(present):
        y = top + n * _CELL
        middle = y + _CELL // 2
        _swatch(draw, _MARGIN, middle - _SWATCH // 2, classes[i])
        draw.text((_MARGIN + _SWATCH + 12, middle), fitted(classes[i].name, 20, _NAMES - 60), INK, font(20), "lm")
        _swatch(draw, left + n * _CELL + (_CELL - _SWATCH) // 2, top - _SWATCH - 12, classes[i])
        _upright(page, classes[i].name, left + n * _CELL + _CELL // 2, top - _SWATCH - 24)
        for m, j in enumerate(present):
            share = float(accuracy.confusion[i, j] / totals[i]) if totals[i] else 0.0
            _cell(draw, left + m * _CELL, y, share, right=i == j)
        for column, value in enumerate((_ratio(accuracy.f1[i]), _ratio(accuracy.iou[i]), _pixels(int(totals[i])))):
            draw.text((left + side + 20 + (column + 1) * _COLUMN, middle), value, INK, font(20), "rm")
    for column, name in enumerate(_FIGURES):
        draw.text((left + side + 20 + (column + 1) * _COLUMN, top - 34), name, QUIET, font(20), "ra")
    draw.rectangle((left, top, left + side, top + side), outline=FRAME)
    draw.text(
        (_MARGIN, top + side + 24),
        fitted("A row without shares: only the map has that class.", 18, room)
        if any(not totals[i] for i in present)
        else "Empty cells: no pixel.",
        QUIET,
        font(18),
    )
    with replacing(path) as temporary:
        page.save(temporary, optimize=True)


def _swatch(draw: ImageDraw.ImageDraw, x: int, y: int, land_cover: LandCover) -> None:
    draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), land_cover.rgb, FRAME)


def _upright(page: Image.Image, text: str, middle: int, bottom: int) -> None:
    """Text that reads upwards, from `bottom`."""
    letters = font(18)
    text = fitted(text, 18, _HEAD - _SWATCH - 40)
    strip = Image.new("RGB", (int(letters.getlength(text)) + 2, 26), PAPER[:3])
    ImageDraw.Draw(strip).text((0, 13), text, INK, letters, "lm")
    turned = strip.rotate(90, expand=True)
    page.paste(turned, (middle - turned.width // 2, bottom - turned.height))


def _cell(draw: ImageDraw.ImageDraw, x: int, y: int, share: float, *, right: bool) -> None:
    # The root lets the eye see shares of a few percent.
    strength = np.sqrt(share)
    full = _RIGHT if right else _WRONG
    red, green, blue = (round(255 + (c - 255) * strength) for c in full)
    draw.rectangle((x, y, x + _CELL, y + _CELL), (red, green, blue), _GRID)
    if share:
        text = f"{100 * share:.0f}" if share >= 0.01 else "<1"
        ink = PAPER if strength > 0.75 else INK if share >= 0.01 else QUIET
        draw.text((x + _CELL // 2, y + _CELL // 2), text, ink, font(20), "mm")


def _ratio(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _pixels(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
