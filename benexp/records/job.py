"""The report of one benchmark job: one configuration measured over all products."""

from dataclasses import dataclass
from typing import Any, Literal

from benexp.records.environment import Environment
from benexp.records.figures import BackendDescription, Totals
from benexp.records.storage import SCHEMA_VERSION
from benexp.records.tile import DoneTile, TileRecord, done_tiles

Status = Literal["done", "failed", "interrupted", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class Startup:
    """One start of the process that measures."""

    open_seconds: dict[str, float]
    """Seconds of loading, compiling, the first batch and the warm-up."""
    backend: BackendDescription


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """One configuration over products; by itself the content of a file in a sweep's `ceilings` folder."""

    schema_version: int = SCHEMA_VERSION
    startups: list[Startup]
    totals: Totals | None
    """null where the job failed before it measured anything."""
    tiles: list[TileRecord]

    @property
    def done(self) -> list[DoneTile]:
        return done_tiles(self.tiles)


@dataclass(frozen=True, kw_only=True)
class JobReport(Measurements):
    """report.json of a benchmark job."""

    status: Status
    """unfinished while the job runs, and for ever where it was killed."""
    error: str | None = None
    """Why it failed before it measured anything."""
    command: str
    config: dict[str, Any]
    """The resolved configuration."""
    config_hash: str
    repeat: int
    side_by_side: bool | None = None
    """True where other jobs may have run beside it."""
    environment: Environment
    ceiling: Measurements | None = None
    """The same without a model."""
    kept: "JobReport | None" = None
    """The report of an earlier run, kept by one that failed before it measured anything."""


def totals_of(tiles: list[TileRecord]) -> Totals:
    done = done_tiles(tiles)
    seconds = sum(tile.seconds for tile in done)
    return Totals(
        done=len(done),
        failed=len(tiles) - len(done),
        seconds=seconds,
        patches_per_second=sum(tile.patches for tile in done) / seconds if done else None,
        km2_per_second=sum(tile.km2 for tile in done) / seconds if done else None,
        peak_rss_bytes=max((tile.usage.peak_rss_bytes for tile in done), default=None),
    )
