"""The maps of a sweep's jobs: their differences from each other, and where these must not be.

Maps with one hash are the same. Others are compared through the probability grids that were saved with them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benexp.config.hashing import NOT_IN_HASH, digest
from benexp.core import cores
from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.mapping.differences import Differences, differences
from benexp.mapping.grid import PatchGrid, ProbabilityGrid
from benexp.records.job import JobReport
from benexp.records.names import RUN
from benexp.records.run import RunRecord
from benexp.records.storage import read_record
from benexp.records.tile import DoneTile
from benexp.runs.publishing import describe_file

log = logging.getLogger("benexp")

HOW = ("batch_size", "threads")
"""Keys of a backend that may decide ties, as they change the order of sums."""
NO_QUESTION = ("task", "backend", "backends", "layers", "export", "quantization", "evaluate", "integrity")
"""Keys of a configuration that leave the map which is asked for as it is."""


@dataclass(frozen=True)
class TileMap:
    """One tile as a job mapped it; `folder` is the job's."""

    folder: Path
    job: JobReport
    tile: DoneTile

    @property
    def product(self) -> str:
        return self.tile.product

    @property
    def hash(self) -> str:
        return self.tile.map_hash

    @property
    def precision(self) -> str:
        """The one that ran."""
        return str(self.tile.backend["precision"])

    def tolerance(self, precision: str) -> float:
        """The largest difference of the two best probabilities of a tie, as allowed to an export of this precision."""
        tolerances = self.job.config["export"]["tolerance"]
        return float(tolerances.get(precision, tolerances["fp32"]))

    def record(self) -> RunRecord:
        """Its run.json. Raises BenexpError where that is not there, or another map's."""
        path = self.folder / self.tile.folder / RUN
        try:
            found = read_record(path, RunRecord)
        except BenexpError as error:
            raise BenexpError(f"{error}: measure it again with resume=false") from error
        if found.map_hash != self.hash:
            raise BenexpError(f"{path}: is not of the map that was measured: measure it again with resume=false")
        return found

    def classified_pixels(self) -> int:
        return self.record().pixels.classified

    @property
    def path(self) -> Path:
        """Its grid."""
        tile = self.tile.tile
        return self.folder / tile / f"{tile}_grid.npz"

    def check(self) -> RunRecord:
        """The record, if the saved grid is the one in it. Raises BenexpError where it is not, or not there."""
        record = self.record()
        try:
            same = describe_file(self.path) == record.grid
        except OSError as error:
            raise BenexpError(f"{self.path}: cannot be read ({error}): measure it again with resume=false") from error
        if not same:
            raise BenexpError(f"{self.path}: is not what the map was made of: measure it again with resume=false")
        return record

    @property
    def area(self) -> Window:
        """The mapped part of the tile."""
        record = self.record()
        return Window(*(record.region or (0, 0, *record.tile_shape)))

    def grid(self) -> ProbabilityGrid:
        """As it was saved. Raises BenexpError where it is not there, or not the one that the map was made of."""
        record = self.check()
        chunking = record.config["chunking"]
        patches = PatchGrid(record.tile_shape, chunking["patch_size"], chunking["stride"])
        found = ProbabilityGrid.load(self.path, record.grid_key, patches, len(record.model.classes))
        assert found  # the file is the record's, and so is its key
        return found[0]


@dataclass(frozen=True)
class Problem:
    """Maps that differ and must not: what of, and the configurations (by hash) among which it is."""

    sentence: str
    configurations: frozenset[str]


class Comparisons:
    """The differences of maps, of which each pair is compared once, however many jobs made them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, float], Differences] = {}

    def between(self, reference: TileMap, candidate: TileMap, tolerance: float) -> Differences:
        """Raises BenexpError where they are no maps of one tile, or a grid is not there any more."""
        key = (candidate.product, reference.hash, candidate.hash, tolerance)
        if key not in self._known:
            log.info("%s: comparing two maps (%s)", candidate.tile.tile, candidate.folder)
            before, after = reference.grid(), candidate.grid()
            try:
                self._known[key] = differences(
                    before,
                    after,
                    reference.area,
                    blend_shape=candidate.job.config["chunking"]["blend"],
                    tolerance=tolerance,
                    threads=cores.available(),
                    take=lambda kinds, window: None,
                )
            except ValueError as error:
                raise BenexpError(f"{candidate.folder}: {error} than those of {reference.folder}") from error
        return self._known[key]


def maps_of(folder: Path, job: JobReport) -> list[TileMap]:
    """Those that a job has finished."""
    return [TileMap(folder, job, tile) for tile in job.done]


def question(job: JobReport) -> dict[str, Any]:
    """The settings that decide which map is asked for, of any backend, without those that say how it is made."""
    config = {key: value for key, value in job.config.items() if key not in (*NOT_IN_HASH, *NO_QUESTION)}
    return config | {"chunking": _without(config["chunking"], "chunk_size")}


def disagreements(maps: Sequence[TileMap], comparisons: Comparisons) -> list[Problem]:
    """The places where maps of one tile differ that must not.

    With all else the same, the chunk size and the repeat change nothing; the batch size and threads only ties.
    """
    return [
        *_altered(maps),
        *_unequal(_grouped(maps, partial(_key, how=True))),
        *_beyond_ties(_grouped(maps, partial(_key, how=False)), comparisons),
    ]


def _altered(maps: Sequence[TileMap]) -> list[Problem]:
    """Saved grids that are not those the maps were made of; one that was deleted is missed where it is needed."""
    problems = []
    for one in maps:
        if one.path.exists():
            try:
                one.check()
            except BenexpError as error:
                problems.append(Problem(str(error), _hashes([one])))
    return problems


def _unequal(groups: Sequence[Sequence[TileMap]]) -> list[Problem]:
    problems = []
    for group in groups:
        first = group[0]
        others = {other.hash: other for other in reversed(group) if other.hash != first.hash}
        problems += [
            Problem(
                f"{first.tile.tile}: the map of {_where(other)} is not that of {_where(first)}, "
                f"with all else the same (backend {first.tile.backend_name}, {other.job.config_hash[:12]})",
                _hashes(group),
            )
            for other in reversed(others.values())
        ]
    return problems


def _beyond_ties(groups: Sequence[Sequence[TileMap]], comparisons: Comparisons) -> list[Problem]:
    problems = []
    for group in groups:
        # One of each batch size: that they agree among themselves is looked at above.
        one_each = list({digest(_ran(one)): one for one in reversed(group)}.values())[::-1]
        first, *others = one_each
        for other in {other.hash: other for other in reversed(others) if other.hash != first.hash}.values():
            tolerance = first.tolerance(first.precision)
            what = f"{first.tile.tile}: the map of {_how(other)} is not that of {_how(first)}"
            try:
                found = comparisons.between(first, other, tolerance)
            except BenexpError as error:
                problems.append(Problem(f"{what}, and whether only ties differ is unknown: {error}", _hashes(group)))
                continue
            if found.beyond_ties_per_million:
                sentence = (
                    f"{what}: {found.beyond_ties_per_million:.3g} pixels per million differ where the two best classes "
                    f"are further apart than {tolerance:g}, which {first.precision} may be off "
                    f"(backend {first.tile.backend_name})"
                )
                problems.append(Problem(sentence, _hashes(group)))
    return problems


def _grouped(maps: Sequence[TileMap], key: Callable[[TileMap], str]) -> list[list[TileMap]]:
    groups: dict[str, list[TileMap]] = {}
    for one in maps:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _key(one: TileMap, how: bool) -> str:
    """Stands for all that the map depends on, with or without the batches and threads that it was made with."""
    config = {key: value for key, value in one.job.config.items() if key not in NOT_IN_HASH}
    backend = _without(config["backend"], *HOW) | (_ran(one) if how else {})
    return digest([config | {"chunking": question(one.job)["chunking"], "backend": backend}, one.product])


def _ran(one: TileMap) -> dict[str, Any]:
    """The batches and threads that ran, which may be others than was asked for, or not the same all the time."""
    changed = any(verdict.code == "batch-changed" for verdict in one.tile.verdicts)
    return {key: one.tile.backend.get(key) for key in HOW} | {"changed": changed}


def _where(one: TileMap) -> str:
    return f"chunking.chunk_size={one.job.config['chunking']['chunk_size']} benchmark.repeat={one.job.repeat}"


def _how(one: TileMap) -> str:
    ran = _ran(one)
    return f"batches of {ran['batch_size']} with {ran['threads'] or 'all'} threads"


def _hashes(group: Sequence[TileMap]) -> frozenset[str]:
    return frozenset(one.job.config_hash for one in group)


def _without(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}
