"""One benchmark job: a configuration over all products, its ceiling, and their report."""

import logging
from collections.abc import Callable
from pathlib import Path

from benexp.benchmarking.ceilings import BEATEN, is_null, shared, sweep_of, without_model
from benexp.benchmarking.configuration_run import ConfigurationRun
from benexp.benchmarking.sweep_report import sweep_report
from benexp.config.concurrent_jobs import runs_concurrently
from benexp.config.schema import Benchmark
from benexp.measure.environment import environment
from benexp.records.job import JobReport, Status
from benexp.records.names import PAGE, REPORT, TABLE
from benexp.records.report_files import STAGES, earlier_report, write_report
from benexp.records.tile import DoneTile, FailedTile, TileRecord
from benexp.report.benchmark_page import write_page
from benexp.report.collection import write_collection
from benexp.report.plots import write_plots
from benexp.runs.estimate import check_fits
from benexp.runs.plan import RunPlan

log = logging.getLogger("benexp")

SURROUNDINGS = ("machine", "processor", "cores", "cpu_quota", "gpus", "gpu_driver", "libraries")
"""Facts of the environment that a time depends on."""


class BenchmarkJob:
    """The run that is planned, the same without a model (the ceiling), and their report in the output folder."""

    def __init__(self, plan: RunPlan, asked: Benchmark, say: Callable[[str], object]) -> None:
        self._plan, self._asked = plan, asked
        self._folder, self._say = plan.output_folder, say
        self._environment, self._side_by_side = environment(), runs_concurrently()
        self._run = self._run_of(plan)
        self._ceiling: ConfigurationRun | None = None
        self._shown: list[str] = []

    def _run_of(self, plan: RunPlan) -> ConfigurationRun:
        facts = {key: value for key, value in self._environment.items() if key in SURROUNDINGS}
        return ConfigurationRun(plan, self._asked, facts | {"side_by_side": self._side_by_side})

    @property
    def tiles(self) -> list[TileRecord]:
        return self._run.tiles

    def find_measured_tiles(self, scratch: Path) -> None:
        """Find the tiles that are measured already, and check that the others fit.

        The ceiling's maps, which show nothing, go to `scratch`.
        """
        saved = earlier_report(self._folder) if self._plan.resume else None
        if saved:
            self._run.reuse(saved, self._folder)
        if self._asked.ceiling and not is_null(self._plan):
            self._ceiling = self._run_of(without_model(self._plan, scratch))
            if saved and saved.ceiling:
                self._ceiling.reuse(saved.ceiling, None)
        for tile in self.tiles:
            self._say(f"{tile.tile}: measured before, with the same configuration, code and input")
        if self._run.left:
            check_fits(self._run.left, self._folder, self._asked.must_fit, self._say)

    def measure(self) -> None:
        """Run both, and write the report, its page and its plots."""
        (self._folder / PAGE).unlink(missing_ok=True)
        self.save("unfinished")
        self._run.measure(self._plan.products, self._changed)
        if self._ceiling:
            with shared(self._ceiling, self._folder):
                self._ceiling.measure(self._run.done, self._ceiling_changed)
        if self._run.done:
            write_collection(self._folder, self._plan.config_hash)
        report = self.save("failed" if any(isinstance(tile, FailedTile) for tile in self.tiles) else "done")
        # The page of a sweep is about all its jobs.
        if sweep_of(self._folder) is None:
            whole = sweep_report(self._folder, {self._folder: report})
            write_page(self._folder, whole)
            plots = write_plots(self._folder, whole)
            self._shown = [PAGE, *(str(path.relative_to(self._folder)) for path in plots)]

    def save(self, status: Status) -> JobReport:
        """Write the report and return it."""
        report = JobReport(
            **vars(self._run.measurements()),
            status=status,
            command=self._plan.command,
            config=self._plan.asked,
            config_hash=self._plan.config_hash,
            repeat=self._asked.repeat,
            side_by_side=self._side_by_side,
            environment=self._environment,
            ceiling=self._ceiling.measurements() if self._ceiling else None,
        )
        write_report(self._folder, report)
        return report

    def _changed(self, tile: TileRecord) -> None:
        self.save("unfinished")
        if not isinstance(tile, DoneTile):
            log.error("%s: %s", tile.tile, tile.error)
            return
        speed = f"{tile.patches_per_second:.1f} patches/s, {tile.km2_per_second:.2f} km2/s"
        memory = tile.usage.peak_rss_bytes / 1e6
        self._say(f"{tile.tile}: {tile.seconds:.2f} s, {speed}, {memory:.0f} MB at most")
        for verdict in tile.verdicts:
            if verdict.severity == "warning":
                log.warning("%s: %s", tile.tile, verdict.sentence)

    def _ceiling_changed(self, tile: TileRecord) -> None:
        self.save("unfinished")
        if isinstance(tile, FailedTile):
            log.warning("%s: not measured without a model: %s", tile.tile, tile.error)

    def summarise(self) -> None:
        """Print the speed, the stages, the memory, and the place of the report, in a few lines."""
        found = self._run.measurements()
        own, done = found.totals, found.done
        if own and own.done:
            assert own.peak_rss_bytes is not None
            self._say(f"tiles: {own.done}; {own.patches_per_second:.1f} patches/s, {own.km2_per_second:.2f} km2/s")
            if shares := [share for tile in done if (share := tile.peak_of_estimate) is not None]:
                self._say(f"memory: {own.peak_rss_bytes / 1e9:.2f} GB at most, {max(shares):.2f} of the estimate")
            busy = (
                f"{stage} {sum(tile.stage_seconds.get(stage, 0.0) for tile in done) / own.seconds:.2f}"
                for stage in STAGES
            )
            self._say(f"busy, as a share of the time (summed over threads): {', '.join(busy)}")
        ceiling = self._ceiling.measurements().totals if self._ceiling else None
        if own and ceiling and ceiling.done:
            self._say(f"without a model (the ceiling of this machine): {ceiling.km2_per_second:.2f} km2/s")
            if own.done == ceiling.done and own.seconds < ceiling.seconds:
                log.warning("%s", BEATEN)
        self._say(f"written to {self._folder}:")
        for name in (TABLE, REPORT, *self._shown):
            self._say(f"  {name}")
