"""One configuration measured over all products, in processes of its own."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benexp.benchmarking.child_process import ProcessDiedError, messages
from benexp.benchmarking.code_hash import code_hash
from benexp.benchmarking.measured_run import Request
from benexp.config.concurrent_jobs import current_sweep
from benexp.config.hashing import digest
from benexp.config.schema import Benchmark
from benexp.core.errors import BenexpError, one_line
from benexp.products.region import region_of
from benexp.records.figures import Estimate
from benexp.records.job import Measurements, Startup, totals_of
from benexp.records.names import RUN
from benexp.records.run import RunRecord
from benexp.records.storage import read_record
from benexp.records.tile import DoneTile, FailedTile, KnownTile, TileRecord, tile_record
from benexp.runs.estimate import estimate
from benexp.runs.inputs import open_input
from benexp.runs.plan import RunPlan

log = logging.getLogger("benexp")


class ConfigurationRun:
    """One configuration over all its products, with the records of those that are done or have failed.

    `surroundings` are the other facts that times depend on: they are measured again where these have changed.
    """

    def __init__(self, plan: RunPlan, asked: Benchmark, surroundings: Mapping[str, Any]) -> None:
        self.plan, self.repeat = plan, asked.repeat
        self._warmup = asked.warmup
        self._startups: list[Startup] = []
        self._tiles: dict[Path, TileRecord] = {}
        self._estimates: dict[Path, Estimate] = {}
        about: dict[str, Any] = {
            "model": plan.spec.name,
            "weights_hash": plan.spec.weights_hash,
            "backend_name": plan.backend.name,
            "asked": plan.backend.arguments,
            "chunking": dataclasses.asdict(plan.chunking),
            "repeat": self.repeat,
            "config_hash": plan.config_hash,
        }
        code = code_hash([plan.backend.kind, *(layer.function for layer in plan.layers)])
        key = [about, surroundings, code, self._warmup]
        self._known = {
            product: self._look(KnownTile(tile=product.name, product=str(product), **about), key)
            for product in plan.products
        }

    def _look(self, known: KnownTile, key: Sequence[Any]) -> KnownTile:
        """The record of a product before it is classified, with all that is known once it was opened."""
        plan, product = self.plan, Path(known.product)
        # A product that cannot be opened fails when its turn comes.
        with (
            contextlib.suppress(Exception),
            open_input(product, plan.reading, plan.spec.bands, warn=False) as tile,
        ):
            key = [*key, tile.name, tile.fingerprint]
            region = region_of(tile, plan.region)
            takes = estimate(region, plan.chunking, plan.backend, plan.layers, plan.spec)
            self._estimates[product] = takes
            known = msgspec.structs.replace(
                known, tile=tile.name, input_bytes=tile.input_bytes, key=digest(key), estimate=takes
            )
        return known

    def reuse(self, saved: Measurements, results: Path | None) -> None:
        """Take over tiles of an earlier report that answer the same question, and whose `results` are still there."""
        done = {tile.key: tile for tile in saved.done}
        for product, known in self._known.items():
            tile = done.get(known.key)
            if tile and (results is None or _is_there(results, tile)):
                self._tiles[product] = msgspec.structs.replace(tile, reused=True)
                self._startups = list(saved.startups)

    def measure(self, products: Sequence[Path], changed: Callable[[TileRecord], None]) -> None:
        """Classify those of the products that are left; `changed` gets every tile when it is done or has failed."""

        def left() -> list[Path]:
            return [product for product in products if product not in self._tiles]

        def end(product: Path, found: Mapping[str, Any]) -> None:
            self._tiles[product] = tile_record(self._known[product], found, current_sweep.get())
            changed(self._tiles[product])

        def fail(failed: Iterable[Path], reason: str) -> None:
            for product in failed:
                end(product, {"status": FailedTile.status, "error": reason})

        try:
            # Here, or the export's memory would be found in the run's.
            if left():
                self.plan.make_backend()
        except Exception as error:
            fail(left(), str(error) if isinstance(error, BenexpError) else f"unexpected {one_line(error)}")
        while todo := left():
            begun, moved = None, False
            taken = [tile.tile for tile in self._tiles.values() if isinstance(tile, DoneTile)]
            request = Request(self.plan, todo, taken, self._warmup)
            try:
                with contextlib.closing(messages("benexp.benchmarking.measured_run", request)) as received:
                    for message in received:
                        if "ready" in message:
                            self._startups.append(msgspec.convert(message["ready"], Startup))
                        elif "begins" in message:
                            begun = Path(message["begins"])
                        elif "ends" in message:
                            end(Path(message["ends"]), message["found"])
                            begun, moved = None, True
                        else:
                            fail(todo, message["failed"])
                if left() and not moved:
                    raise ProcessDiedError("its process ended before its work did")
            except ProcessDiedError as died:
                # With no tile begun it would die again; unless it came as far as to end some.
                fail([begun] if begun else [] if moved else left(), str(died))

    @property
    def left(self) -> list[Estimate]:
        """The estimates of the products that are neither done nor failed, where they can be made."""
        return [takes for product, takes in self._estimates.items() if product not in self._tiles]

    @property
    def tiles(self) -> list[TileRecord]:
        """Those that are done or have failed, in the products' order."""
        return [self._tiles[product] for product in self.plan.products if product in self._tiles]

    @property
    def done(self) -> list[Path]:
        return [product for product, tile in self._tiles.items() if isinstance(tile, DoneTile)]

    def measurements(self) -> Measurements:
        return Measurements(startups=self._startups, totals=totals_of(self.tiles), tiles=self.tiles)


def _is_there(folder: Path, tile: DoneTile) -> bool:
    """True where a tile's results are those that were measured, and whole."""
    path = folder / tile.folder / RUN
    if not path.exists():
        return False
    try:
        record = read_record(path, RunRecord)
    except BenexpError as error:
        log.warning("%s: measured again: %s", tile.tile, error)
        return False
    sizes = {path.parent / name: file.bytes for name, file in record.files.items()}
    whole = all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())
    return whole and record.map_hash == tile.map_hash
