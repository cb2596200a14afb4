"""preview.png: the tile as it looks beside the classes found in it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benexp.core.classes import LandCover
from benexp.core.files import replacing
from benexp.records.run import WorkRecord
from benexp.report.drawing import FRAME, INK, PAPER, QUIET, coloured, fitted, font, rgba
from benexp.report.tables import areas, classified_text

WIDTH = 1600
_MARGIN = 40
_GAP = 24
_PANEL = (WIDTH - 2 * _MARGIN - _GAP) // 2
_SWATCH = 22
_ROW = 36
_LINE = 26


def write_preview(
    path: Path,
    record: WorkRecord,
    rgb: npt.NDArray[np.uint8],
    rgb_valid: npt.NDArray[np.bool_],
    class_ids: npt.NDArray[np.uint8],
    counts: npt.NDArray[np.int64],
    classes: Sequence[LandCover],
) -> None:
    """Two panels, true colour and class map, a legend of the classes present, and the facts to judge them by.

    `rgb` [3, h, w] with `rgb_valid` [h, w] and `class_ids` [h', w'] show the same ground; ids that are not in
    `classes` are nodata, which is transparent in both panels. `counts` are pixels per class of the whole map, of which
    `class_ids` may be a reduced one.
    """
    picture = rgba(np.moveaxis(rgb, 0, -1), rgb_valid)
    classified = coloured(class_ids, classes)
    height, width = class_ids.shape
    # Tall tiles: no higher than wide, so that the page still fits a screen.
    scale = _PANEL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Classes have no averages, and the pixels of small tiles should look like pixels.
    shrink = Image.Resampling.BICUBIC if picture.width > size[0] else Image.Resampling.NEAREST
    panels = [
        (f"True colour, {record.sensed[:10]}" if record.sensed else "True colour", picture.resize(size, shrink)),
        ("Land cover", classified.resize(size, Image.Resampling.NEAREST)),
    ]

    # The largest first.
    legend = sorted((area for area in areas(counts, 1, classes) if area.share), key=lambda area: -area.share)
    rows = max(1, -(-len(legend) // 2))
    top = 150
    notes = [f"{str(record.resolution).capitalize()}. {record.attribution}", classified_text(record)]
    below = top + size[1] + _MARGIN + rows * _ROW
    page = Image.new("RGBA", (WIDTH, below + len(notes) * _LINE + _MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 36), fitted(record.title, 40, WIDTH - 2 * _MARGIN), INK, font(40))
    for i, (caption, panel) in enumerate(panels):
        left = _MARGIN + i * (_PANEL + _GAP) + (_PANEL - size[0]) // 2
        draw.text((left, 106), caption, QUIET, font(24))
        # Pasted without a mask: the panel's transparency replaces the paper.
        page.paste(panel, (left, top))
        draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=FRAME)
    for i, (land_cover, _, share) in enumerate(legend):
        left = _MARGIN + i // rows * (_PANEL + _GAP)
        y = top + size[1] + _MARGIN + i % rows * _ROW
        middle = y + _SWATCH // 2
        draw.rectangle((left, y, left + _SWATCH, y + _SWATCH), (*land_cover.rgb, 255), FRAME)
        draw.text((left + _SWATCH + 82, middle), _percent(share), INK, font(22), "rm")
        left += _SWATCH + 98
        if font(22).getlength(land_cover.name) <= _PANEL - _SWATCH - 98:
            draw.text((left, middle), land_cover.name, INK, font(22), "lm")
        else:
            for line, offset in zip(_halves(land_cover.name), (-9, 9), strict=True):
                draw.text((left, middle + offset), line, INK, font(17), "lm")
    if not legend:
        draw.text((_MARGIN, top + size[1] + _MARGIN), "Nothing was classified", QUIET, font(22))
    for i, note in enumerate(notes):
        draw.text((_MARGIN, below + 12 + i * _LINE), fitted(note, 19, WIDTH - 2 * _MARGIN), QUIET, font(19))
    with replacing(path) as temporary:
        # Higher levels take several times as long to save a hundredth of the file.
        page.save(temporary, compress_level=4)


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def _halves(text: str) -> tuple[str, str]:
    """A long text on two lines."""
    first, *rest = textwrap.wrap(text, round(len(text) * 0.6))
    return first, " ".join(rest)
