"""A product of any layout: its named band files, and the facts known about their radiometry."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benexp.core.errors import BenexpError
from benexp.products.container import Container
from benexp.products.metadata import MODEL_QUANTIFICATION, Metadata, baseline_of, read_metadata, sensed_in
from benexp.products.names import NATIVE, one_digit_hint
from benexp.products.stac_item import StacItem, read_items

Level = Literal["L2A", "L1C", "folder", "patch"]

L1C_WARNING = "L1C (top of atmosphere): the models were trained on L2A, so expect a worse map"


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
    quantification: int
    """DN per unit of reflectance."""
    baseline: str | None
    """The processing baseline, such as `05.09`."""
    sensed: str | None
    """The start of sensing, in UTC, in the form of RFC 3339; None where nothing says it."""
    warnings: tuple[str, ...]
    container: Container
    metadata: Metadata | None
    items: tuple[StacItem, ...]
    """STAC items beside the bands."""
    names: tuple[str, ...]
    """The names that state facts: of the product, its granule and its files."""

    @property
    def simulated(self) -> bool:
        """True where the metadata say that no satellite took it, as in the products of the demo."""
        return self.metadata is not None and self.metadata.simulated

    @property
    def attribution(self) -> str:
        """The source of the data, in the words that the Copernicus licence asks for."""
        if self.simulated:
            return "Made of simulated data: contains no Copernicus Sentinel data"
        return f"Contains modified Copernicus Sentinel data{f' {self.sensed[:4]}' if self.sensed else ''}"

    def band_files(self, bands: Sequence[str]) -> list[BandFile]:
        """The files of these bands. Raises BenexpError naming those that are missing and what there is."""
        missing = [band for band in bands if band not in self.bands]
        if missing:
            seen = ", ".join(Path(band.file).name for band in self.bands.values())
            hint = one_digit_hint(self.container.names)
            raise BenexpError(f"{self.path} lacks the bands {', '.join(missing)} (found: {seen}){hint}")
        return [self.bands[band] for band in bands]


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
    items, warnings = read_items(container)
    # Only L1C has band 10.
    if metadata.level == "L1C" if metadata else "B10" in bands or _says_l1c(names, items):
        level = "L1C"
        warnings = (L1C_WARNING, *warnings)
    baselines = [metadata.baseline if metadata else None, baseline_of(*names), *(item.baseline for item in items)]
    times = [metadata.sensed if metadata else None, sensed_in(*names)]
    times += [time for item in items for time in (item.sensed, sensed_in(*item.names))]
    return Product(
        name=name or container.name,
        path=container.path,
        level=level,
        bands=bands,
        scl=scl,
        quantification=metadata.quantification if metadata else MODEL_QUANTIFICATION,
        baseline=next(filter(None, baselines), None),
        sensed=next(filter(None, times), None),
        warnings=warnings,
        container=container,
        metadata=metadata,
        items=items,
        names=tuple(names),
    )


def _says_l1c(names: Sequence[str], items: Sequence[StacItem]) -> bool:
    every = (*names, *(name for item in items for name in item.names))
    return any(item.is_l1c for item in items) or any("L1C_" in name for name in every)
