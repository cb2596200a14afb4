"""One report over all jobs of a sweep of benchmarks: how fast each configuration is, how right, and which to use."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from benexp.benchmarking.agreement import Comparisons, disagreements, maps_of
from benexp.benchmarking.configuration_results import ConfigurationResults, backend_of, excluded_of
from benexp.benchmarking.configuration_summary import summary_of
from benexp.benchmarking.labels import labels
from benexp.benchmarking.pareto import front
from benexp.benchmarking.recommendation import Candidate, Limits, recommend
from benexp.benchmarking.reference_comparison import choose_reference, describe_reference
from benexp.benchmarking.sweep_table import explanations, red, table
from benexp.core.files import identity
from benexp.records.environment import Environment
from benexp.records.job import JobReport
from benexp.records.job_outcome import JobOutcome
from benexp.records.names import PAGE, REPORT, TABLE
from benexp.records.report_files import write_report
from benexp.records.storage import read_record
from benexp.records.sweep import Configuration, OtherEnvironment, Recommended, SweepReport
from benexp.records.tile import FailedTile
from benexp.report.benchmark_page import write_page
from benexp.report.collection import write_sweep_collection
from benexp.report.plots import write_plots

log = logging.getLogger("benexp")


def written(folder: Path, outcomes: Iterable[JobOutcome]) -> list[Path]:
    """The reports that jobs of a sweep have written below `folder`, in the place of what was there when they began.

    By that, and not by the time: the clocks of machines that share a file system differ. A job whose tiles were reused
    has written its report anew.
    """
    began = {Path(one.report): one.replaces for one in reversed(list(outcomes)) if one.report}
    own = [path for path, before in began.items() if identity(path) not in (None, before)]
    return [path for path in reversed(own) if path.is_relative_to(folder)]


def join(folder: Path, reports: Sequence[Path], say: Callable[[str], object]) -> bool:
    """Write the report of the sweep in `folder` from these reports of its jobs; True where all is well.

    It goes by files, so that jobs may have run anywhere, and any of them may have died.
    """
    paths = sorted(reports, key=lambda path: int(path.parent.name))
    jobs = {path.parent: read_record(path, JobReport) for path in paths}
    if not jobs:
        return True
    report = sweep_report(folder, jobs)
    write_report(folder, report)
    write_page(folder, report)
    drawn = write_plots(folder, report)
    collection = write_sweep_collection(
        folder, {one.configuration: [folder / job for job in one.jobs] for one in report.configurations}
    )
    made = [folder / TABLE, folder / REPORT, folder / PAGE, *([collection] if collection else []), *drawn]
    for line in [*table(report), *explanations(report.configurations)]:
        say(line)
    reference = report.reference
    if reference and reference.precision != "fp32":
        log.warning("the reference, %s, is %s", reference.configuration, reference.why)
    if report.excluded:
        log.warning("%s", report.excluded)
    for problem in report.problems:
        log.error("%s", red(problem, sys.stderr, os.environ))
    say(report.recommendation.sentence)
    say(f"written to {folder}:")
    for path in made:
        say(f"  {path.relative_to(folder)}")
    return report.status == "done"


def sweep_report(folder: Path, jobs: Mapping[Path, JobReport]) -> SweepReport:
    """The report over these jobs, of which there is one at least, by their folders below `folder`."""
    by_hash: dict[str, dict[Path, JobReport]] = {}
    for place, job in jobs.items():
        by_hash.setdefault(job.config_hash, {})[place] = job
    firsts = [next(iter(own.values())) for own in by_hash.values()]
    named = labels([job.config for job in firsts], [backend_of(job) for job in firsts])
    comparisons = Comparisons()
    problems = disagreements([one for place, job in jobs.items() for one in maps_of(place, job)], comparisons)
    excluded = excluded_of(jobs.values())
    every = [
        ConfigurationResults(own, label, problems, excluded) for own, label in zip(by_hash.values(), named, strict=True)
    ]
    reference = choose_reference(every)
    compared = _with_fronts([summary_of(one, reference, comparisons, folder) for one in every])
    found, recommendation = _recommended(compared, reference, firsts[0].config["recommend"])
    first, others = _environments(folder, jobs)
    all_done = all(job.status == "done" for job in jobs.values())
    return SweepReport(
        status="done" if all_done and not problems else "failed",
        environment=first,
        other_environments=others,
        jobs=[str(place.relative_to(folder)) for place in jobs],
        configurations=found,
        reference=describe_reference(reference) if reference else None,
        recommendation=recommendation,
        problems=[problem.sentence for problem in problems],
        excluded=_about_excluded(excluded, jobs.values()),
        tiles=[tile for job in jobs.values() for tile in job.tiles],
    )


def _environments(folder: Path, jobs: Mapping[Path, JobReport]) -> tuple[Environment, list[OtherEnvironment]]:
    """That of the first job, and those that are not the same: of the jobs, not of the machine that reports on them."""
    found: list[OtherEnvironment] = []
    for place, job in jobs.items():
        own = next((one for one in found if one.environment == job.environment), None)
        if own is None:
            own = OtherEnvironment(environment=job.environment, jobs=[])
            found.append(own)
        own.jobs.append(str(place.relative_to(folder)))
    return found[0].environment, found[1:]


def _about_excluded(excluded: Mapping[str, FailedTile], jobs: Iterable[JobReport]) -> str | None:
    if not excluded:
        return None
    products = {tile.product for job in jobs for tile in job.tiles if tile.product}
    reasons = [f"{tile.tile} ({tile.error})" for tile in excluded.values()]
    compared = f"compared over {len(products) - len(excluded)} of {len(products)} products"
    return f"{compared}, as the others failed in every job: {'; '.join(reasons)}"


def _with_fronts(found: Sequence[Configuration]) -> list[Configuration]:
    """Mark the fronts, of those that ask for the reference's map, are whole, and whose maps agree."""
    eligible = [one for one in found if one.compared and not one.failed and not one.problems]
    speeds = [one.patches_per_second.median if one.patches_per_second else None for one in eligible]
    memory = front(list(zip(speeds, [one.memory_bytes for one in eligible], strict=True)))
    flips = front(list(zip(speeds, [one.flips_per_million for one in eligible], strict=True)))
    names = [one.configuration for one in eligible]
    on_memory, on_flips = (set(compress(names, marks)) for marks in (memory, flips))
    return [
        replace(one, pareto_memory=one.configuration in on_memory, pareto_flips=one.configuration in on_flips)
        for one in found
    ]


def _recommended(
    found: Sequence[Configuration], reference: ConfigurationResults | None, asked: Mapping[str, float | None]
) -> tuple[list[Configuration], Recommended]:
    """The configurations, each with the reason why it is not recommended, and the recommendation."""
    limits = Limits(asked["max_memory_gb"], asked["max_flips_per_million"])
    candidates = [
        Candidate(
            *(one.configuration, one.seconds, one.memory_bytes, one.flips_per_million, one.left_out),
            unstable=one.spread if any(verdict.code == "unstable" for verdict in one.verdicts) else None,
        )
        for one in found
    ]
    of_reference = next((one for one in candidates if reference and one.name == reference.label.name), None)
    advice = recommend(candidates, of_reference, limits)
    best = next((one for one in found if one.configuration == advice.best), None)
    return [replace(one, left_out=advice.left_out.get(one.configuration)) for one in found], Recommended(
        sentence=advice.sentence,
        configuration=advice.best,
        config_hash=best.config_hash if best else None,
        overrides=best.overrides if best else [],
        nearest=advice.nearest,
        not_told_apart=advice.not_told_apart,
        max_memory_gb=limits.memory_gb,
        max_flips_per_million=limits.flips_per_million,
    )
