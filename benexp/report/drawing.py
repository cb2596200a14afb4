"""The parts that the pictures share: colours, letters, maps in the colours of their classes."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFont

from benexp.core.classes import LandCover

PAPER = (255, 255, 255, 255)
INK = (28, 32, 36, 255)
QUIET = (96, 104, 112, 255)
FRAME = (168, 174, 180, 255)


def rgba(colours: npt.NDArray[np.uint8], opaque: npt.NDArray[np.bool_]) -> Image.Image:
    """Colours [h, w, 3] where `opaque` [h, w], nothing elsewhere."""
    alpha = np.where(opaque, np.uint8(255), np.uint8(0))
    return Image.fromarray(np.dstack([colours, alpha]), "RGBA")


def coloured(class_ids: npt.NDArray[np.uint8], classes: Sequence[LandCover]) -> Image.Image:
    """A map [h, w] in the colours of its classes; ids that are not in `classes` are transparent."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = [c.rgb for c in classes]
    return rgba(table[class_ids], class_ids < len(classes))


def fitted(text: str, size: int, room: int) -> str:
    """The text in letters the font has, cut with an ellipsis where it is longer than `room` pixels."""
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in decomposed if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    letters = font(size)
    if letters.getlength(text) <= room:
        return text
    while letters.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def wrapped(text: str, size: int, room: int) -> list[str]:
    """The text in lines of `room` pixels at most, broken between words; a word that is longer is cut."""
    letters = font(size)
    lines: list[str] = []
    for word in (fitted(word, size, room) for word in text.split()):
        if lines and letters.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that the picture is the same on every machine; it has ASCII letters only."""
    letters = ImageFont.load_default(size)
    assert isinstance(letters, ImageFont.FreeTypeFont)
    return letters
