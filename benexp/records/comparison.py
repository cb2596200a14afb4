"""comparison.json: the maps and speeds of several backends on one tile."""

from dataclasses import dataclass
from typing import Any

from benexp.records.run import WorkRecord


@dataclass(frozen=True)
class AreaChange:
    """By how much the area of a class differs from the reference's."""

    class_id: int
    class_name: str
    hectares: float
    share: float
    """The difference in area as a share of the compared pixels."""


@dataclass(frozen=True)
class ClassChange:
    """Pixels of one class in the reference and another class in the candidate."""

    reference: str
    candidate: str
    pixels: int


@dataclass(frozen=True, kw_only=True)
class BackendComparison:
    """One backend against the reference, which is the first backend of the record."""

    label: str
    precision: str
    describe: dict[str, Any]
    """`describe()` of the backend."""
    settings: dict[str, Any]
    patches_per_second: float
    speed_ratio: float
    """Times the reference's patches per second."""
    open_seconds: float
    seconds: float
    infer_seconds: float
    map_hash: str
    flips_per_million: float
    """Pixels of another class than the reference's."""
    beyond_ties_per_million: float
    """Those of them where the reference's two best classes are further apart than `tie_tolerance`."""
    tie_tolerance: float
    prob_diff_max: float
    prob_diff_mean: float
    prob_diff_p99: float
    area_change: list[AreaChange]
    flips: list[ClassChange]


@dataclass(frozen=True, kw_only=True)
class ComparisonRecord(WorkRecord):
    """One tile classified by several backends."""

    compared_pixels: int
    reference: str
    """Label of the first backend."""
    notes: list[str]
    seconds: float
    backends: list[BackendComparison]
