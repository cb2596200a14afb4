"""A product of any layout: its named band files, and the facts known about their radiometry."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from benexp.core.errors import BenexpError
from benexp.products.container import Container
from benexp.products.metadata import MODEL_QUANTIFICATION, Metadata, baseline_of, no_offset, read_metadata, sensed_in

Level = Literal["L2A", "L1C", "folder", "patch"]

NATIVE = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20),
    **dict.fromkeys(("B01", "B09", "B10"), 60),
}
"""Metres per pixel where a file's name does not say."""

_BAND_FILE = re.compile(
    r"^(?P<prefix>.*_)?(?P<band>B0[1-9]|B1[0-2]|B8A|SCL)(_(?P<resolution>10|20|60)m)?\.(jp2|j2k|tiff?)$", re.IGNORECASE
)


@dataclass(frozen=True)
class BandFile:
    """One band (or the scene classification, SCL) in one file."""

    name: str
    path: str
    """As GDAL opens it; `/vsizip/...` in a zip."""
    resolution: int | None
    """Metres per pixel by the file's name; None where it does not say."""
    file: str
    """The file's path in the product."""

    @property
    def assumed_resolution(self) -> int:
        return self.resolution or NATIVE[self.name]


@dataclass(frozen=True)
class Product:
    """A product as it lies on disk; no band has been opened yet."""

    name: str
    path: Path
    level: Level
    bands: Mapping[str, BandFile]
    """The finest file of every band."""
    scl: BandFile | None
    offsets: Mapping[str, int] | None
    """Per band, to be added to its DN; None where nothing says what it is."""
    quantification: int
    """DN per unit of reflectance."""
    baseline: str | None
    """The processing baseline, such as `05.09`."""
    sensed: str | None
    """The start of sensing, in UTC, in the form of RFC 3339; None where nothing says it."""
    warnings: tuple[str, ...]
    container: Container
    metadata: Metadata | None

    def band_files(self, bands: Sequence[str]) -> list[BandFile]:
        """The files of these bands. Raises BenexpError naming those that are missing and what there is."""
        missing = [band for band in bands if band not in self.bands]
        if missing:
            seen = ", ".join(Path(band.file).name for band in self.bands.values())
            raise BenexpError(f"{self.path} lacks the bands {', '.join(missing)} (found: {seen})")
        return [self.bands[band] for band in bands]


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


def finest(files: Iterable[BandFile], where: Path) -> dict[str, BandFile]:
    """The file of the finest resolution for every band. Raises BenexpError where two files share it."""
    best: dict[str, BandFile] = {}
    for file in sorted(files, key=lambda file: (file.name, file.assumed_resolution)):
        chosen = best.setdefault(file.name, file)
        if chosen is not file and chosen.assumed_resolution == file.assumed_resolution:
            raise BenexpError(f"{where} has two files for {file.name} ({chosen.file}, {file.file}): leave one of them")
    return best


def make_product(
    container: Container, files: Iterable[BandFile], level: Level, *, name: str | None = None, names: Sequence[str]
) -> Product:
    """A product of these files, with the facts that its metadata and `names` (of product, granule, files) state.

    Raises BenexpError if two files are of the same band, or the metadata cannot be read.
    """
    bands = finest(files, container.path)
    scl = bands.pop("SCL", None)
    metadata = read_metadata(container)
    baseline = metadata.baseline if metadata and metadata.baseline else baseline_of(*names)
    if metadata.level == "L1C" if metadata else any("L1C_" in name for name in names):
        level = "L1C"
    return Product(
        name=name or container.name,
        path=container.path,
        level=level,
        bands=bands,
        scl=scl,
        offsets=metadata.offsets if metadata and metadata.offsets else no_offset(baseline),
        quantification=metadata.quantification if metadata else MODEL_QUANTIFICATION,
        baseline=baseline,
        sensed=(metadata and metadata.sensed) or sensed_in(*names),
        warnings=("L1C (top of atmosphere): the models were trained on L2A, so expect a worse map",)
        if level == "L1C"
        else (),
        container=container,
        metadata=metadata,
    )
