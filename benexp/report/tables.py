"""The small files beside the rasters: how much of each class there is, and what its id means."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benexp.core.classes import LandCover, named
from benexp.core.files import replacing


class Area(NamedTuple):
    """How much of a tile is of a class: hectares, and the share of the classified area (0 to 1)."""

    land_cover: LandCover
    hectares: float
    share: float


def areas(counts: npt.NDArray[np.int64], pixel_area: float, classes: Sequence[LandCover]) -> list[Area]:
    """The areas of `classes` from their pixel `counts`, with pixels of `pixel_area` m2."""
    total = int(counts.sum())
    return [
        Area(land_cover, int(count) * pixel_area / 10_000, int(count) / total if total else 0.0)
        for land_cover, count in zip(classes, counts, strict=True)
    ]


def write_areas(path: Path, counts: npt.NDArray[np.int64], pixel_area: float, classes: Sequence[LandCover]) -> None:
    """areas.csv: a row per class, the absent ones too."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class_id", "class_name", "hectares", "share"])
        for area in areas(counts, pixel_area, classes):
            table.writerow([area.land_cover.id, area.land_cover.name, f"{area.hectares:.2f}", f"{area.share:.6f}"])


def write_classmap(path: Path, class_names: Sequence[str]) -> None:
    """What the ids in the class raster mean: id -> name, colour, CLC codes."""
    classmap = {
        str(i): {"name": c.name, "colour": c.colour, "clc": list(c.clc)} for i, c in enumerate(named(class_names))
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(classmap, indent=2) + "\n", encoding="utf-8")
