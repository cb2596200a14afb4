"""One configuration of a sweep over all its repeats: the results in its jobs' reports."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from benexp.benchmarking.agreement import Problem, TileMap, maps_of
from benexp.benchmarking.ceilings import BEATEN
from benexp.benchmarking.labels import Label
from benexp.benchmarking.verdicts import spread_verdicts
from benexp.records.figures import BackendDescription, Verdict
from benexp.records.job import JobReport
from benexp.records.tile import DoneTile, FailedTile
from benexp.runs.backend_choice import backend_name

NULL = "null"


class ConfigurationResults:
    """One configuration and its jobs, by their folders; they differ in the repeat."""

    def __init__(
        self, jobs: Mapping[Path, JobReport], label: Label, problems: Sequence[Problem], excluded: Collection[str]
    ) -> None:
        """`excluded` are the products that failed in every job, and are not compared."""
        self.jobs, self.label = jobs, label
        self.first = next(iter(jobs.values()))
        self.hash = self.first.config_hash
        # A run without a tile that others have was none over all that is compared.
        self.whole = {place: job for place, job in jobs.items() if _is_whole(job, excluded)}
        self.seconds = {job.repeat: sum(tile.seconds for tile in job.done) for job in self.whole.values()}
        self.problems = [problem.sentence for problem in problems if self.hash in problem.configurations]
        done = next(iter(self.whole.items()), None)
        self.maps: list[TileMap] = maps_of(*done) if done else []
        self.backend: BackendDescription = self.maps[0].tile.backend if self.maps else {}
        self.name = backend_of(self.first)
        precision = self.backend.get("precision", self.first.config["backend"].get("precision"))
        self.precision = None if precision is None else str(precision)
        self.fell_back = bool(self.backend.get("fallback"))
        self.tiles = [tile for job in self.whole.values() for tile in job.done]

    @property
    def is_null(self) -> bool:
        return self.name == NULL

    @property
    def failed(self) -> list[int]:
        """The repeats that failed."""
        return sorted(job.repeat for place, job in self.jobs.items() if place not in self.whole)

    @property
    def errors(self) -> list[str]:
        """The reasons why repeats failed, each once."""
        reasons = []
        for place, job in self.jobs.items():
            if place not in self.whole:
                failed = [tile for tile in job.tiles if isinstance(tile, FailedTile)]
                tiles = [": ".join(filter(None, (tile.tile, tile.error))) for tile in failed]
                reasons += tiles or [job.error or f"it was {job.status}"]
        return list(dict.fromkeys(reasons))

    @property
    def stage_seconds(self) -> dict[str, float]:
        """The median over the repeats of each stage's seconds, over all tiles."""
        sums = []
        for job in self.whole.values():
            total: dict[str, float] = {}
            for tile in job.done:
                for stage, took in tile.stage_seconds.items():
                    total[stage] = total.get(stage, 0.0) + took
            sums.append(total)
        return {stage: statistics.median(one.get(stage, 0.0) for one in sums) for stage in (sums[0] if sums else ())}

    @property
    def ceilings(self) -> dict[int, float]:
        """Seconds without a model, by repeat, where they were measured of all tiles."""
        known = ((job, job.ceiling.totals) for job in self.whole.values() if job.ceiling)
        return {job.repeat: totals.seconds for job, totals in known if totals and totals.done == len(job.done)}

    @property
    def sweeps(self) -> dict[int, set[str | None]]:
        """By repeat, the sweeps in which its tiles were measured."""
        return {job.repeat: {tile.sweep for tile in job.done} for job in self.whole.values()}

    @property
    def peak_rss_bytes(self) -> int | None:
        return max((tile.usage.peak_rss_bytes for tile in self.tiles), default=None)

    @property
    def peak_device_memory_bytes(self) -> int | None:
        peaks = (tile.usage.peak.get("device_memory_bytes") for tile in self.tiles)
        return max((int(peak) for peak in peaks if peak is not None), default=None)

    def verdicts(self, more: Iterable[Verdict]) -> list[Verdict]:
        """On the spread of the repeats and the ceiling, `more`, and those of the runs, each sort once."""
        times, ceilings = list(self.seconds.values()), self.ceilings
        found = spread_verdicts(times, self.first.config["benchmark"]["unstable"]) if times else []
        beaten = [repeat for repeat, ceiling in ceilings.items() if self.seconds[repeat] < ceiling]
        if beaten:
            found.append(Verdict("ceiling", "warning", f"{len(beaten)} of {len(ceilings)} repeats {BEATEN}"))
        every = [*found, *more, *(verdict for tile in self.tiles for verdict in tile.verdicts)]
        return list({verdict.code: verdict for verdict in reversed(every)}.values())[::-1]


def excluded_of(jobs: Iterable[JobReport]) -> dict[str, FailedTile]:
    """Failed tiles, by product, of which no job has finished one: that is no configuration's fault.

    Where nothing was finished, nothing is known of the products.
    """
    tiles = [tile for job in jobs for tile in job.tiles]
    done = {tile.product for tile in tiles if isinstance(tile, DoneTile)}
    failed = {tile.product: tile for tile in tiles if isinstance(tile, FailedTile) and tile.product not in done}
    return {product: tile for product, tile in failed.items() if done and product}


def backend_of(job: JobReport) -> str:
    """Its name; an interrupted job may have no tile that has it."""
    return job.tiles[0].backend_name if job.tiles else backend_name(job.config["backend"])


def _is_whole(job: JobReport, excluded: Collection[str]) -> bool:
    missing = {tile.product for tile in job.tiles if isinstance(tile, FailedTile)}
    return job.status in ("done", "failed") and bool(job.done) and missing <= set(excluded)
