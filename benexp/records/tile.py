"""One tile of a benchmark: done or failed.

These are msgspec's own structures and not dataclasses, because their `status` decides which of the two is read.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from benexp.records.figures import BackendDescription, Estimate, UsageSummary, Verdict


class KnownTile(Struct, frozen=True, kw_only=True, tag_field="status"):
    """The part of a record that is known before the tile is classified."""

    tile: str
    """Empty for the one tile that stands for all, of a job that failed before it opened any."""
    product: str
    """Its path."""
    model: str
    weights_hash: str | None = None
    backend_name: str
    asked: dict[str, Any]
    """The backend's settings, of which others may have run."""
    chunking: dict[str, Any]
    repeat: int
    config_hash: str
    input_bytes: int | None = None
    key: str | None = None
    """Identifies everything that the time depends on; null where the product cannot be opened."""
    estimate: Estimate | None = None
    reused: bool = False
    """True where an earlier run measured it."""
    sweep: str | None = None
    """Identifies the sweep in which it was measured."""


class DoneTile(KnownTile, frozen=True, kw_only=True, tag="done"):
    """A tile that was measured."""

    status: ClassVar[str] = "done"
    error: None = None
    folder: str
    """The folder of its results, below the job's."""
    seconds: float
    stage_seconds: dict[str, float]
    """Busy seconds of each stage, summed over its threads."""
    patches: int
    km2: float
    map_hash: str
    output_bytes: int
    files: int
    batches: int
    latency_seconds: dict[str, float | None]
    """p50, p90 and p99 of the batches; null where there were too few of them."""
    latency_histogram: dict[int, int]
    """Batches by bin; see `benexp.measure.statistics.histogram`."""
    backend: BackendDescription
    range_patches: str | None
    usage: UsageSummary
    verdicts: list[Verdict]

    @property
    def patches_per_second(self) -> float:
        return self.patches / self.seconds

    @property
    def km2_per_second(self) -> float:
        return self.km2 / self.seconds

    @property
    def peak_of_estimate(self) -> float | None:
        """The largest memory of the process, as a share of the estimate; None where there is no estimate."""
        return self.usage.peak_rss_bytes / self.estimate.memory_bytes if self.estimate else None


class FailedTile(KnownTile, frozen=True, kw_only=True, tag="failed"):
    """A tile that was not measured, and why."""

    status: ClassVar[str] = "failed"
    error: str


TileRecord = DoneTile | FailedTile


def tile_record(known: KnownTile, found: Mapping[str, Any], sweep: str | None) -> TileRecord:
    """The record of a known tile that has just been classified; `found` are the other fields as JSON holds them."""
    fields = {**msgspec.to_builtins(known), **found, "reused": False, "sweep": sweep}
    made: TileRecord = msgspec.convert(fields, type=TileRecord, str_keys=True)
    return made


def done_tiles(tiles: list[TileRecord]) -> list[DoneTile]:
    return [tile for tile in tiles if isinstance(tile, DoneTile)]
