"""One configuration of a sweep, over all its repeats: what its jobs' reports say of it."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from benexp.benchmarking.agreement import Comparisons, Job, Map, Problem, maps_of, question
from benexp.benchmarking.ceilings import BEATEN
from benexp.benchmarking.labels import Label, flat
from benexp.benchmarking.verdicts import Verdict, spread_verdicts
from benexp.core.errors import BenexpError
from benexp.measure.statistics import Comparison, compare, estimate, spread
from benexp.records.sweep import INTERRUPTED, Configuration, Interval
from benexp.runs.backend_choice import backend_name

NULL = "null"
OTHER_TIME = "other-time"
"""The verdict on times that drift has parted from the reference's."""


class Measured:
    """One configuration and its jobs, which differ in the repeat."""

    def __init__(
        self,
        folder: Path,
        jobs: Mapping[Path, Job],
        label: Label,
        problems: Sequence[Problem],
        excluded: Mapping[str, Any],
    ) -> None:
        """`excluded` are the products that failed in every job, and are none of what is compared."""
        self._folder, self._jobs, self.label = folder, jobs, label
        self.first = next(iter(jobs.values()))
        self.hash = str(self.first["config_hash"])
        # A run without a tile that others have was none over all that is compared.
        self.whole = {place: job for place, job in jobs.items() if _is_whole(job, excluded)}
        self.seconds = {int(job["repeat"]): float(job["totals"]["seconds"]) for job in self.whole.values()}
        self.problems = [problem.sentence for problem in problems if self.hash in problem.configurations]
        done = next(iter(self.whole.items()), None)
        self.maps: list[Map] = maps_of(*done) if done else []
        self.backend: Mapping[str, Any] = self.maps[0].tile["backend"] if self.maps else {}
        self.name = backend_of(self.first)
        precision = self.backend.get("precision", self.first["config"]["backend"].get("precision"))
        self.precision: str | None = precision
        self.fell_back = bool(self.backend.get("fallback"))
        self._tiles = [tile for job in self.whole.values() for tile in _done(job)]

    @property
    def is_null(self) -> bool:
        return self.name == NULL

    def describe(self, reference: "Measured | None", comparisons: Comparisons) -> Configuration:
        times = list(self.seconds.values())
        median = asdict(estimate(times)) if times else None
        patches, km2 = (sum(one.tile[key] for one in self.maps) if self.maps else None for key in ("patches", "km2"))
        failed = sorted(int(job["repeat"]) for place, job in self._jobs.items() if place not in self.whole)
        usages = [tile["usage"] for tile in self._tiles]
        rss = max((usage["peak_rss_bytes"] for usage in usages), default=None)
        device = _largest(usage["peak"].get("device_memory_bytes") for usage in usages)
        asked = self.first["config"]
        ceilings = self._ceilings()
        incomparable = self._incomparable(reference)
        described: dict[str, Any] = {
            "configuration": self.label.name,
            "overrides": self.label.overrides,
            "config_hash": self.hash,
            "jobs": [str(place.relative_to(self._folder)) for place in self._jobs],
            "status": "failed" if failed else "done",
            "repeats": sorted(int(job["repeat"]) for job in self._jobs.values()),
            "failed": failed,
            "errors": self._errors(),
            "backend": self.name,
            "precision": self.precision,
            **{key: self.backend.get(key) for key in ("device", "provider", "batch_size", "threads")},
            "chunk_size": asked["chunking"]["chunk_size"],
            "seconds": self.seconds,
            "median": median,
            "spread": spread(times),
            "stage_seconds": self._stages(),
            "patches": patches,
            "km2": km2,
            "patches_per_second": _rate(patches, median),
            "km2_per_second": _rate(km2, median),
            "ceiling_seconds": asdict(estimate(list(ceilings.values()))) if ceilings else None,
            "peak_rss_bytes": rss,
            "peak_device_memory_bytes": device,
            "memory_bytes": _largest((rss, device)),
            "map_hashes": {one.tile["tile"]: one.hash for one in self.maps},
            "compared": incomparable is None,
            **self._flips(reference, incomparable, comparisons),
            "against_reference": self._against(reference),
            **{"pareto_memory": False, "pareto_flips": False},
            "verdicts": self._verdicts(times, ceilings, reference),
            "problems": self.problems,
        }
        described["left_out"] = self._refused(described)
        return cast(Configuration, described)

    def _errors(self) -> list[str]:
        """Why repeats failed, each reason once."""
        reasons = []
        for place, job in self._jobs.items():
            if place not in self.whole:
                failed = [tile for tile in job["tiles"] if tile["status"] == "failed"]
                tiles = [": ".join(filter(None, (tile["tile"], tile["error"]))) for tile in failed]
                reasons += tiles or [job.get("error") or f"it was {job['status']}"]
        return list(dict.fromkeys(reasons))

    def _stages(self) -> dict[str, float]:
        sums = []
        for job in self.whole.values():
            total: dict[str, float] = {}
            for tile in _done(job):
                for stage, took in tile["stage_seconds"].items():
                    total[stage] = total.get(stage, 0.0) + took
            sums.append(total)
        return {stage: statistics.median(one.get(stage, 0.0) for one in sums) for stage in (sums[0] if sums else ())}

    def _ceilings(self) -> dict[int, float]:
        """Seconds without a model, by repeat, where they were measured of all tiles."""
        known = {int(job["repeat"]): (job, (job["ceiling"] or {}).get("totals")) for job in self.whole.values()}
        return {
            repeat: float(totals["seconds"])
            for repeat, (job, totals) in known.items()
            if totals and totals["done"] == len(_done(job))
        }

    def _incomparable(self, reference: "Measured | None") -> str | None:
        """Why its maps cannot be held against the reference's; None where they can."""
        if not self.maps:
            return "no run of it was finished"
        if self.is_null:
            return "it classifies nothing"
        assert reference  # it is one itself
        if differing := _difference(self, reference):
            return f"it makes another map than the reference does: {differing}"
        if {one.product for one in self.maps} != {one.product for one in reference.maps}:
            return "it was measured on other products than the reference"
        return None

    def _flips(
        self, reference: "Measured | None", incomparable: str | None, comparisons: Comparisons
    ) -> dict[str, Any]:
        unknown = {"flips_per_million": None, "beyond_ties_per_million": None, "prob_diff_max": None}
        if reference is None or incomparable:
            return unknown | {"flips_unknown": incomparable}
        theirs = {one.product: one for one in reference.maps}
        flips, beyond, pixels = 0, 0, 0
        largest: list[float] = []
        try:
            for one in self.maps:
                first = theirs[one.product]
                if one.hash == first.hash:
                    pixels += one.valid_pixels()
                    continue
                found = comparisons.between(first, one, first.tolerance("fp32"))
                flips += int(found.flips.sum())
                beyond += int(found.flips.sum()) - found.ties
                pixels += found.pixels
                largest.append(found.prob_diff_max)
        except BenexpError as error:
            return unknown | {"flips_unknown": str(error)}
        share = 1e6 / pixels if pixels else 0.0
        return {
            "flips_per_million": flips * share,
            "beyond_ties_per_million": beyond * share,
            "prob_diff_max": max(largest, default=None),
            "flips_unknown": None,
        }

    def _against(self, reference: "Measured | None") -> dict[str, Any] | None:
        if reference is None or not self.seconds.keys() & reference.seconds.keys():
            return None
        found: Comparison = compare(self.seconds, reference.seconds)
        return asdict(found) | {"verdict": found.verdict, "words": str(found)}

    def _verdicts(
        self, times: Sequence[float], ceilings: Mapping[int, float], reference: "Measured | None"
    ) -> list[dict[str, Any]]:
        """On the spread of the repeats, the ceiling, and other sweeps, and what the runs had to say, each sort once."""
        found: list[Verdict] = spread_verdicts(times, self.first["config"]["benchmark"]["unstable"]) if times else []
        beaten = [repeat for repeat, ceiling in ceilings.items() if self.seconds[repeat] < ceiling]
        if beaten:
            found.append(Verdict("ceiling", "warning", f"{len(beaten)} of {len(ceilings)} repeats {BEATEN}"))
        if reference and (apart := self._apart(reference)):
            what = f"repeat{'s' if len(apart) > 1 else ''} {', '.join(map(str, apart))}"
            sentence = f"{OTHER_TIME}: {what} not measured in the same sweep as the reference's: drift does not cancel"
            found.append(Verdict(OTHER_TIME, "warning", f"{sentence}; resume=false measures all anew"))
        every = [asdict(verdict) for verdict in found]
        every += [verdict for tile in self._tiles for verdict in tile["verdicts"]]
        return list({verdict["code"]: verdict for verdict in reversed(every)}.values())[::-1]

    def _apart(self, reference: "Measured") -> list[int]:
        """Those of the repeats that were, or whose reference's were, taken over from another sweep."""
        own, theirs = self._sweeps(), reference._sweeps()
        return sorted(repeat for repeat in own.keys() & theirs.keys() if own[repeat] != theirs[repeat])

    def _sweeps(self) -> dict[int, set[str | None]]:
        """By repeat, those in which its tiles were measured."""
        return {int(job["repeat"]): {tile.get("sweep") for tile in _done(job)} for job in self.whole.values()}

    def _refused(self, described: Mapping[str, Any]) -> str | None:
        """Why it would not be recommended under any limits."""
        codes = {verdict["code"]: verdict["sentence"] for verdict in described["verdicts"]}
        if described["failed"]:
            errors = described["errors"]
            return INTERRUPTED if errors == [INTERRUPTED] else f"failed: {'; '.join(errors)}"
        if self.is_null:
            return "it classifies nothing"
        if "fallback" in codes:
            return str(codes["fallback"])
        if self.problems:
            return "its maps disagree"
        return None if described["compared"] else str(described["flips_unknown"])


def excluded_of(jobs: Iterable[Job]) -> dict[str, Any]:
    """Failed tiles, by product, of which no job has finished one: that is no configuration's fault.

    Where nothing was finished, nothing is known of the products.
    """
    tiles = [tile for job in jobs for tile in job["tiles"]]
    done = {tile["product"] for tile in tiles if tile["status"] == "done"}
    return {tile["product"]: tile for tile in tiles if done and tile["product"] and tile["product"] not in done}


def _is_whole(job: Job, excluded: Mapping[str, Any]) -> bool:
    missing = {tile["product"] for tile in job["tiles"] if tile["status"] != "done"}
    return job["status"] in ("done", "failed") and bool(_done(job)) and missing <= excluded.keys()


def _done(job: Job) -> list[Mapping[str, Any]]:
    return [tile for tile in job["tiles"] if tile["status"] == "done"]


def backend_of(job: Job) -> str:
    """Its name; an interrupted job may have no tile that tells it."""
    return str(job["tiles"][0]["backend_name"]) if job["tiles"] else backend_name(job["config"]["backend"])


def _difference(one: Measured, reference: Measured) -> str | None:
    """What asks for another map than the reference's does; None where both ask for the same."""
    own, theirs = (flat(question(other.first)) for other in (one, reference))
    differing = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
    return ", ".join(f"{key}={own.get(key)}" for key in differing) or None


def _largest(peaks: Iterable[int | None]) -> int | None:
    """Of those that are known."""
    return max((peak for peak in peaks if peak is not None), default=None)


def _rate(count: float | None, median: Mapping[str, Any] | None) -> Interval | None:
    """`count` per second of an interval of seconds."""
    if count is None or median is None:
        return None
    low, high = (None if end is None else count / end for end in (median["high"], median["low"]))
    return {"median": count / median["median"], "low": low, "high": high, "samples": median["samples"]}
