"""One report over all jobs of a sweep of benchmarks: how fast each configuration is, and whether maps agree."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benexp.config import NOT_IN_HASH, digest
from benexp.measure.environment import environment
from benexp.measure.statistics import compare, estimate, spread
from benexp.measure.verdicts import Verdict, spread_verdicts
from benexp.report.benchmark import REPORT, TABLE, write_report

log = logging.getLogger("benexp")

Job = Mapping[str, Any]
"""A job's report.json."""


def join(folder: Path, since: float, say: Callable[[str], object]) -> bool:
    """Write the joint report of the jobs below `folder` whose reports were written `since` then; whether maps agree.

    It goes by files, so that jobs may have run anywhere, and any of them may have died.
    """
    paths = [path for path in (folder / "jobs").glob(f"*/*/{REPORT}") if path.stat().st_mtime >= since]
    paths.sort(key=lambda path: (int(path.parent.name), path.stat().st_mtime))
    jobs: list[Job] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    if not jobs:
        return True
    configurations = _configurations(jobs)
    problems = disagreements(jobs)
    report = {
        "status": "done" if all(job["status"] == "done" for job in jobs) and not problems else "failed",
        "environment": environment(),
        "jobs": [str(path.parent.relative_to(folder)) for path in paths],
        "configurations": configurations,
        "problems": problems,
        "tiles": [tile for job in jobs for tile in job["tiles"]],
    }
    write_report(folder, report)
    _tell(configurations, say)
    for problem in problems:
        log.error("%s", problem)
    say(f"written to {folder}:")
    for name in (TABLE, REPORT):
        say(f"  {name}")
    return not problems


def _configurations(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What is known of each configuration, the first of which the others are compared with."""
    repeats: dict[str, dict[int, Job]] = {}
    for job in jobs:
        repeats.setdefault(job["config_hash"], {})[job["repeat"]] = job
    firsts = [next(iter(own.values())) for own in repeats.values()]
    labels = dict(zip(repeats, _labels(firsts), strict=True))
    # A run without one of its tiles was none over all products.
    seconds = {
        hash_: {repeat: job["totals"]["seconds"] for repeat, job in own.items() if _is_whole(job)}
        for hash_, own in repeats.items()
    }
    reference = next(iter(seconds.values()))
    found = []
    for hash_, own in repeats.items():
        times = seconds[hash_]
        bound = next(iter(own.values()))["config"]["benchmark"]["unstable"]
        verdicts: list[Verdict] = spread_verdicts(list(times.values()), bound) if times else []
        found.append(
            {
                "configuration": labels[hash_],
                "config_hash": hash_,
                "repeats": sorted(own),
                "failed": sorted(repeat for repeat, job in own.items() if not _is_whole(job)),
                "seconds": times,
                "median": asdict(estimate(list(times.values()))) if times else None,
                "spread": spread(list(times.values())),
                "verdicts": [asdict(verdict) for verdict in verdicts],
                "patches": next((_sum(own[repeat], "patches") for repeat in times), None),
                "km2": next((_sum(own[repeat], "km2") for repeat in times), None),
                "peak_rss_bytes": max((own[repeat]["totals"]["peak_rss_bytes"] for repeat in times), default=None),
                "against_first": str(compare(times, reference)) if times.keys() & reference.keys() else None,
            }
        )
    return found


def disagreements(jobs: Sequence[Job]) -> list[str]:
    """Where maps of one tile differ that must not: those of jobs that differ in the chunk size and the repeat alone."""
    hashes: dict[tuple[str, str], dict[str, str]] = {}
    problems = []
    for job in jobs:
        config = {key: value for key, value in job["config"].items() if key not in NOT_IN_HASH}
        chunking = {key: value for key, value in config["chunking"].items() if key != "chunk_size"}
        key = digest(config | {"chunking": chunking})
        for tile in job["tiles"]:
            if tile["status"] == "done":
                where = f"chunking.chunk_size={config['chunking']['chunk_size']} benchmark.repeat={job['repeat']}"
                same = hashes.setdefault((key, tile["product"]), {})
                other = next((place for place, hash_ in same.items() if hash_ != tile["map_hash"]), None)
                if other:
                    problems.append(
                        f"{tile['tile']}: the map of {where} is not that of {other}, with all else the same "
                        f"(backend {tile['backend_name']}, {tile['config_hash'][:12]})"
                    )
                same[where] = tile["map_hash"]
    return problems


def _labels(jobs: Sequence[Job]) -> list[str]:
    """What tells the configurations apart, as the user would write it."""
    flat = [_flat({key: value for key, value in job["config"].items() if key not in NOT_IN_HASH}) for job in jobs]
    for one, job in zip(flat, jobs, strict=True):
        target = one.pop("backend._target_")
        one["backend"] = next((tile["backend_name"] for tile in job["tiles"]), target)
    keys = sorted({key for one in flat for key in one})
    telling = [key for key in keys if len({json.dumps(one.get(key)) for one in flat if key in one}) > 1]
    return [
        " ".join(f"{key}={one[key]}" for key in telling if key in one) or f"backend={one['backend']}" for one in flat
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return flat


def _is_whole(job: Job) -> bool:
    return bool(job["status"] == "done")


def _sum(job: Job, key: str) -> float:
    return float(sum(tile[key] for tile in job["tiles"]))


def _tell(configurations: Sequence[Mapping[str, Any]], say: Callable[[str], object]) -> None:
    """A line for each configuration: its speed with the interval of the median, memory, and what to know."""
    for found in configurations:
        median = found["median"]
        if median is None:
            say(f"{found['configuration']}: no run of it was finished")
            continue
        speed = f"{found['patches'] / median['median']:.1f} patches/s"
        if median["low"] is not None:
            speed += f" ({found['patches'] / median['high']:.1f} to {found['patches'] / median['low']:.1f})"
        notes = [verdict["sentence"] for verdict in found["verdicts"]]
        if found is not configurations[0] and found["against_first"]:
            notes.insert(0, f"against the first: {found['against_first']}")
        if found["failed"]:
            notes.append(f"repeats that failed: {', '.join(map(str, found['failed']))}")
        memory = f"{found['peak_rss_bytes'] / 1e6:.0f} MB"
        say("; ".join([f"{found['configuration']}: {speed}, {memory}", *notes]))
