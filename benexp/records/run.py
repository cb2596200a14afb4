"""run.json: the record of one classified tile."""

from dataclasses import dataclass, field
from typing import Any, Self

from benexp.records.environment import Environment
from benexp.records.figures import BackendDescription
from benexp.records.model import ModelRecord
from benexp.records.storage import SCHEMA_VERSION


@dataclass(frozen=True)
class FileRecord:
    """Size and sha256 of a result."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class PatchCounts:
    """Patches of the tile's grid, and how many of them were classified."""

    all: int
    classified: int


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of the results; those without a class are of two kinds, which add up with `classified` to `all`."""

    all: int
    valid: int
    """With data in every band, not saturated, not masked."""
    classified: int
    not_valid: int
    too_few_valid_around: int
    """Valid, but in no patch that was classified: each has a smaller share of valid pixels than `min_valid`."""

    @classmethod
    def of(cls, all: int, valid: int, classified: int) -> Self:
        return cls(all, valid, classified, all - valid, valid - classified)


@dataclass(frozen=True)
class EffectiveResolution:
    """The ground that one answer of the model is about, and the distance between two answers, both in metres."""

    answer_size: int
    answer_spacing: int

    def __str__(self) -> str:
        """Such as `one answer per 1.2 km patch, every 600 m`."""
        return f"one answer per {_distance(self.answer_size)} patch, every {_distance(self.answer_spacing)}"


def _distance(metres: int) -> str:
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres} m"


@dataclass(frozen=True, kw_only=True)
class WorkRecord:
    """The question, the tile, the model and the machine of any work on one tile."""

    schema_version: int = SCHEMA_VERSION
    tile: str
    product: str
    product_hash: str
    """sha256 over the files of the product that are read, wherever they lie."""
    sensed: str | None
    """The start of sensing, in UTC, such as `2022-04-13T15:07:59Z`; None where nothing states it."""
    simulated: bool
    """True where the product says that no satellite took it."""
    attribution: str
    """The source of the product's data, in the words that its licence asks for."""
    region: tuple[int, int, int, int] | None
    """The first row and column, height and width of the mapped part of the tile; None: the whole."""
    tile_shape: tuple[int, int]
    """Rows and columns of the whole tile, in pixels of 10 m."""
    shape: tuple[int, int]
    """Rows and columns of the results."""
    crs: str
    transform: tuple[float, float, float, float, float, float]
    """Affine, from (column, row) in the results to coordinates of `crs`."""
    command: str
    """The command that repeats the work."""
    config: dict[str, Any]
    """The resolved configuration."""
    config_hash: str
    model: ModelRecord
    offsets: dict[str, int]
    """By band, added to the numbers of the files."""
    offset_source: str
    """The evidence that the offsets follow."""
    resolution: EffectiveResolution
    patches: PatchCounts
    valid_pixels: int
    """The same as `pixels.valid`."""
    pixels: PixelCounts
    warnings: list[str]
    peak_memory_bytes: int
    environment: Environment
    files: dict[str, FileRecord] = field(default_factory=dict)
    """By name, in the folder of the record."""

    @property
    def pixel_area(self) -> float:
        """Square metres of a pixel."""
        return abs(self.transform[0] * self.transform[4])

    @property
    def title(self) -> str:
        """The tile's name, and its region where the results are of one."""
        row, col, height, width = self.region or (0, 0, 0, 0)
        return f"{self.tile}, {height} x {width} pixels from row {row}, column {col}" if self.region else self.tile


@dataclass(frozen=True, kw_only=True)
class RunRecord(WorkRecord):
    """One tile classified with one configuration."""

    backend_name: str
    folder: str
    """The folder of the results, below the run's output folder."""
    grid_key: str
    grid: FileRecord
    """`<tile>_grid.npz` in the tile's folder, as it was when the map was made of it."""
    grid_reused: bool
    resumed_chunks: int
    """Chunks that an interrupted run had classified."""
    map_hash: str
    """sha256 of the shape and pixels of the class map."""
    backend: BackendDescription
    """`describe()` of the backend that ran."""
    range_patches: str | None
    """The patches that int8 was quantised on."""
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Busy seconds of each stage, summed over threads."""


@dataclass(frozen=True, kw_only=True)
class GridOrigin:
    """The content of `about` in a saved probability grid: how its answers came about."""

    grid_key: str
    question: str
    """A hash of the settings that decide which answers are asked for, whichever engine and version gives them."""
    product: str
    product_hash: str
    backend: BackendDescription
    range_patches: str | None
    """The patches that int8 was quantised on."""
