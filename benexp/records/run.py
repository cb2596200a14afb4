"""run.json: the record of one classified tile."""

from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class WorkRecord:
    """The question, the tile, the model and the machine of any work on one tile."""

    schema_version: int = SCHEMA_VERSION
    tile: str
    product: str
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
    patches: PatchCounts
    valid_pixels: int
    warnings: list[str]
    peak_memory_bytes: int
    environment: Environment
    files: dict[str, FileRecord] = field(default_factory=dict)
    """By name, in the folder of the record."""

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
    backend: BackendDescription
    range_patches: str | None
    """The patches that int8 was quantised on."""
