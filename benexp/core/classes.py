"""The 19 land-cover classes of BigEarthNet: ids in the models' output order, names, CLC codes, colours.

Source: the BigEarthNet 19-class nomenclature over CORINE Land Cover level 3, whose official colours are used.
"""

from collections.abc import Sequence
from typing import NamedTuple

from benexp.core.errors import BenexpError

NODATA = 255
"""The class id of a pixel that has no class."""


class LandCover(NamedTuple):
    id: int
    name: str
    clc: tuple[int, ...]
    colour: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


CLASSES: tuple[LandCover, ...] = (
    LandCover(0, "Agro-forestry areas", (244,), "#f2cca6"),
    LandCover(1, "Arable land", (211, 212, 213), "#ffffa8"),
    LandCover(2, "Beaches, dunes, sands", (331,), "#e6e6e6"),
    LandCover(3, "Broad-leaved forest", (311,), "#80ff00"),
    LandCover(4, "Coastal wetlands", (421, 422), "#ccccff"),
    LandCover(5, "Complex cultivation patterns", (242,), "#ffe64d"),
    LandCover(6, "Coniferous forest", (312,), "#00a600"),
    LandCover(7, "Industrial or commercial units", (121,), "#cc4df2"),
    LandCover(8, "Inland waters", (511, 512), "#80f2e6"),
    LandCover(9, "Inland wetlands", (411, 412), "#4d4dff"),
    LandCover(
        10,
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
        (243,),
        "#e6cc4d",
    ),
    LandCover(11, "Marine waters", (521, 522, 523), "#e6f2ff"),
    LandCover(12, "Mixed forest", (313,), "#4dff00"),
    LandCover(13, "Moors, heathland and sclerophyllous vegetation", (322, 323), "#a6ff80"),
    LandCover(14, "Natural grassland and sparsely vegetated areas", (321, 333), "#ccf24d"),
    LandCover(15, "Pastures", (231,), "#e6e64d"),
    LandCover(16, "Permanent crops", (221, 222, 223, 241), "#e68000"),
    LandCover(17, "Transitional woodland, shrub", (324,), "#a6f200"),
    LandCover(18, "Urban fabric", (111, 112), "#ff0000"),
)

NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)


def named(names: Sequence[str]) -> tuple[LandCover, ...]:
    """The classes of these names, in this order; raises BenexpError for a name that is not among the 19."""
    known = {c.name: c for c in CLASSES}
    if strangers := [name for name in names if name not in known]:
        raise BenexpError(f"{strangers[0]!r} is not one of the {len(CLASSES)} classes of BigEarthNet")
    return tuple(known[name] for name in names)
