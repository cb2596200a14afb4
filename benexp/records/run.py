"""run.json: the record of one classified tile."""

from dataclasses import dataclass, field
from typing import Any

from benexp.records.environment import Environment
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
    shape: tuple[int, int]
    """Rows and columns of pixels at 10 m."""
    crs: str
    transform: tuple[float, float, float, float, float, float]
    """Affine, from (column, row) to coordinates of `crs`."""
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


@dataclass(frozen=True, kw_only=True)
class RunRecord(WorkRecord):
    """One tile classified with one configuration."""

    backend_name: str
    grid_key: str
    grid_reused: bool
    resumed_chunks: int
    """Chunks that an interrupted run had classified."""
    map_hash: str
    """sha256 of the shape and pixels of the class map."""
    backend: dict[str, Any]
    """`describe()` of the backend that ran."""
    calibration: str | None
    """The patches that int8 was quantised on."""
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Busy seconds of each stage, summed over threads."""


@dataclass(frozen=True, kw_only=True)
class GridOrigin:
    """The content of `about` in a saved probability grid: how its answers came about."""

    grid_key: str
    backend: dict[str, Any]
    warnings: list[str]
    calibration: str | None
    reused: bool = False
    resumed_chunks: int = 0
