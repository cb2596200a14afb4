"""Names of band files: `B02.tif`, `T33UUP_20230625T234621_B02_10m.jp2`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

NATIVE = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20),
    **dict.fromkeys(("B01", "B09", "B10"), 60),
}
"""Metres per pixel of each band in the archive's products."""

_BAND_FILE = re.compile(
    r"^(?P<prefix>.*_)?(?P<band>B0[1-9]|B1[0-2]|B8A|SCL)(_(?P<resolution>10|20|60)m)?\.(jp2|j2k|tiff?)$", re.IGNORECASE
)
_ONE_DIGIT = re.compile(
    r"^(?P<before>.*_)?B(?P<digit>[1-9])(?P<after>(_(10|20|60)m)?\.(jp2|j2k|tiff?))$", re.IGNORECASE
)


class BandName(NamedTuple):
    """The parts of a band file's name."""

    prefix: str
    band: str
    resolution: int | None


def parse_band_file(file: str) -> BandName | None:
    """The parts of a file's name if it is a band's: `R10m/T33_B02_10m.jp2` -> T33, B02, 10."""
    match = _BAND_FILE.match(file.rpartition("/")[2])
    if not match:
        return None
    return BandName(
        (match["prefix"] or "").removesuffix("_"), match["band"].upper(), int(match["resolution"] or 0) or None
    )


def one_digit_hint(files: Iterable[str]) -> str:
    """A hint for files that are named B2 for B02, to end a message with; empty where there are none.

    >>> one_digit_hint(["B2.tif", "B11.tif"])
    '; B2.tif should be named B02.tif'
    """
    for file in files:
        if found := _ONE_DIGIT.match(name := file.rpartition("/")[2]):
            return f"; {name} should be named {found['before'] or ''}B0{found['digit']}{found['after']}"
    return ""
