"""The small files beside the rasters: how much of each class there is, and what its id means."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benexp.core.classes import NODATA, LandCover, named
from benexp.core.files import replacing
from benexp.records.run import WorkRecord


class Area(NamedTuple):
    """The area of a class in a tile: hectares, and the share of the classified area (0 to 1)."""

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


def without_class(record: WorkRecord) -> list[tuple[str, float]]:
    """The reasons why pixels of a map have no class, each with its hectares."""
    pixels, area = record.pixels, record.pixel_area / 10_000
    return [("not valid", pixels.not_valid * area), ("too few valid pixels around", pixels.too_few_valid_around * area)]


def classified_text(record: WorkRecord) -> str:
    """The classified area and why the rest has no class, in a line."""
    pixels, area = record.pixels, record.pixel_area / 10_000
    parts = [f"{_rounded(hectares)} ha {reason}" for reason, hectares in without_class(record) if hectares]
    rest = f"; no class: {', '.join(parts)}" if parts else ""
    return f"{_rounded(pixels.classified * area)} of {_rounded(pixels.all * area)} ha classified{rest}"


def _rounded(hectares: float) -> str:
    return f"{hectares:,.0f}" if hectares >= 100 else f"{hectares:.3g}"


def write_areas(path: Path, record: WorkRecord, counts: npt.NDArray[np.int64], classes: Sequence[LandCover]) -> None:
    """areas.csv: a row per class, the absent ones too, and one per reason to have none, with the raster's nodata value.

    `counts` are pixels per class.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class_id", "class_name", "hectares", "share"])
        for area in areas(counts, record.pixel_area, classes):
            table.writerow([area.land_cover.id, area.land_cover.name, f"{area.hectares:.2f}", f"{area.share:.6f}"])
        for reason, hectares in without_class(record):
            table.writerow([NODATA, f"no class: {reason}", f"{hectares:.2f}", ""])


def write_classmap(path: Path, class_names: Sequence[str]) -> None:
    """Write the meaning of the ids in the class raster: id -> name, colour, CLC codes."""
    classmap = {
        str(i): {"name": c.name, "colour": c.colour, "clc": list(c.clc)} for i, c in enumerate(named(class_names))
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(classmap, indent=2) + "\n", encoding="utf-8")
