"""One configuration over all products, measured in a process of its own: `benexp task=benchmark input_dir=...`."""

import contextlib
import dataclasses
import inspect
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import benexp
import exporters
from benexp.benchmarking.ceilings import BEATEN, is_null, shared, sweep_of, without_model
from benexp.benchmarking.child_process import ProcessDiedError, messages
from benexp.benchmarking.measured_run import Request
from benexp.benchmarking.sweep_report import joint_report
from benexp.config.command import command
from benexp.config.concurrent_jobs import in_company, this_sweep
from benexp.config.hashing import config_hash, digest
from benexp.config.schema import Config
from benexp.core.errors import BenexpError, one_line
from benexp.core.files import staging
from benexp.measure.environment import environment
from benexp.models.published import sha256
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.records.benchmark import REPORT, STAGES, TABLE, earlier_report, of_estimate, write_report
from benexp.report.benchmark_page import PAGE, write_page
from benexp.report.collection import write_collection
from benexp.report.plots import write_plots
from benexp.runs.backend_setup import backend_class, backend_name, make_backend
from benexp.runs.estimate import Estimate, check_fits, estimate, plan
from benexp.runs.inputs import open_input, output_folder, products
from benexp.runs.outputs import RECORD
from benexp.runs.quantization import calibration_for_backend
from benexp.tasks.classify import checked_layers

log = logging.getLogger("benexp")

Tile = dict[str, Any]
"""What a report says of one tile."""

SURROUNDINGS = ("machine", "processor", "cores", "cpu_quota", "gpus", "gpu_driver", "libraries")
"""What of the environment a time depends on."""


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[Tile]:
    """Measure the configuration on every product it names; what the report says of them.

    The report is written anew after every tile. Raises BenexpError where a tile failed, after the others are done.
    """
    backend_class(config.backend)
    made_layers = checked_layers(config)
    found = products(config)
    if config.dry_run:
        return [plan(product, config, made_layers, say) for product in found]
    spec = resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    folder = Path(config.output_folder)
    with output_folder(folder), staging(folder) as scratch:
        benchmark = _Benchmark(config, overrides, spec, found, folder, say)
        benchmark.prepare(scratch)
        try:
            benchmark.measure()
        except BaseException:
            benchmark.save("interrupted")
            raise
        benchmark.summarise()
    failed = [tile["tile"] for tile in benchmark.tiles if tile["status"] == "failed"]
    if failed:
        raise BenexpError(f"{len(failed)} of {len(found)} products failed: {', '.join(failed)} (see {folder / TABLE})")
    return benchmark.tiles


class _Run:
    """One configuration over all products: what is known of each of them, done or not."""

    def __init__(
        self,
        config: Config,
        overrides: Sequence[str],
        spec: ModelSpec,
        found: Sequence[Path],
        machine: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._overrides = overrides
        self._spec = spec
        self._found = found
        self._startups: list[Mapping[str, Any]] = []
        self._tiles: dict[Path, Tile] = {}
        self._estimates: dict[Path, Estimate] = {}
        about = {
            "model": spec.name,
            "weights_hash": spec.weights_hash,
            "backend_name": backend_name(config.backend),
            "asked": {key: value for key, value in config.backend.items() if key != "_target_"},
            "chunking": dataclasses.asdict(config.chunking),
            "repeat": config.benchmark.repeat,
            "config_hash": config_hash(config),
        }
        where = {key: machine[key] for key in SURROUNDINGS}
        key = [about, where, in_company(), _code_hash(config), config.benchmark.warmup]
        self._known = {product: about | self._look(product, key) for product in found}

    def _look(self, product: Path, key: Sequence[Any]) -> Tile:
        """What can be told of a product before it is classified. Its `key` stands for all that its time depends on."""
        told: Tile = {"tile": product.name, "product": str(product), "input_bytes": None, "key": None, "estimate": None}
        # It is told when the product's turn comes.
        with (
            contextlib.suppress(Exception),
            open_input(product, self._config, self._spec.bands, warn=False) as tile,
        ):
            key = [*key, tile.name, tile.fingerprint]
            takes = self._estimates[product] = estimate(tile, self._config, checked_layers(self._config), self._spec)
            told |= {"tile": tile.name, "input_bytes": tile.input_bytes, "key": digest(key)}
            told["estimate"] = dataclasses.asdict(takes)
        return told

    def reuse(self, saved: Mapping[str, Any], results: Path | None) -> None:
        """Take over tiles of an earlier report that answer the same question, and whose `results` are still there."""
        done = {tile["key"]: tile for tile in saved.get("tiles", ()) if tile["status"] == "done"}
        for product, known in self._known.items():
            tile = done.get(known["key"])
            if tile and (results is None or _is_there(results, tile)):
                self._tiles[product] = tile | {"reused": True}
                self._startups = list(saved["startups"])

    def measure(self, products: Sequence[Path], changed: Callable[[Tile], None]) -> None:
        """Classify what is left of these; `changed` is told of every tile when it is done or has failed."""

        def left() -> list[Path]:
            return [product for product in products if product not in self._tiles]

        def end(product: Path, found: Mapping[str, Any]) -> None:
            self._tiles[product] = {**self._known[product], **found, "reused": False, "sweep": this_sweep.get()}
            changed(self._tiles[product])

        def fail(failed: Iterable[Path], reason: str) -> None:
            for product in failed:
                end(product, {"status": "failed", "error": reason})

        try:
            # Here, or the export's memory would be found in the run's.
            if left():
                self._make_artefact()
        except Exception as error:
            fail(left(), str(error) if isinstance(error, BenexpError) else f"unexpected {one_line(error)}")
        while todo := left():
            begun, moved = None, False
            taken = [tile["tile"] for tile in self._tiles.values() if tile["status"] == "done"]
            request = Request(self._config, self._overrides, self._found, todo, taken)
            try:
                with contextlib.closing(messages("benexp.benchmarking.measured_run", request)) as told:
                    for message in told:
                        if "ready" in message:
                            self._startups.append(message["ready"])
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

    def _make_artefact(self) -> None:
        calibration = calibration_for_backend(self._found, self._config, self._spec)
        tolerances = self._config.export.tolerance
        make_backend(self._config.backend, self._spec, tolerances=tolerances, calibration=calibration)

    @property
    def left(self) -> list[Estimate]:
        """What those that are neither done nor failed take, as far as that can be told."""
        return [takes for product, takes in self._estimates.items() if product not in self._tiles]

    @property
    def tiles(self) -> list[Tile]:
        """Those that are done or have failed, in the products' order."""
        return [self._tiles[product] for product in self._found if product in self._tiles]

    @property
    def done(self) -> list[Path]:
        return [product for product, tile in self._tiles.items() if tile["status"] == "done"]

    def describe(self) -> dict[str, Any]:
        return {"startups": self._startups, "totals": _totals(self.tiles), "tiles": self.tiles}


class _Benchmark:
    """The run that was asked for, the one that says what is possible without a model, and their report."""

    def __init__(
        self,
        config: Config,
        overrides: Sequence[str],
        spec: ModelSpec,
        found: Sequence[Path],
        folder: Path,
        say: Callable[[str], object],
    ) -> None:
        self._found, self._folder, self._say = found, folder, say
        self._machine = environment()
        self._asked = {
            "command": command(overrides),
            "config": dataclasses.asdict(config),
            "config_hash": config_hash(config),
            "repeat": config.benchmark.repeat,
            "side_by_side": in_company(),
        }
        self._run = _Run(config, overrides, spec, found, self._machine)
        self._config, self._overrides, self._spec = config, overrides, spec
        self._ceiling: _Run | None = None
        self._shown: list[str] = []

    @property
    def tiles(self) -> list[Tile]:
        return self._run.tiles

    def prepare(self, scratch: Path) -> None:
        """Find what is measured already, and whether the rest fits; the ceiling's maps, which show nothing, go to
        `scratch`.
        """
        saved = earlier_report(self._folder) if self._config.resume else {}
        self._run.reuse(saved, self._folder)
        if self._config.benchmark.ceiling and not is_null(self._config):
            self._without = without_model(self._config, scratch)
            self._ceiling = _Run(self._without, self._overrides, self._spec, self._found, self._machine)
            self._ceiling.reuse(saved.get("ceiling") or {}, None)
        for tile in self.tiles:
            self._say(f"{tile['tile']}: measured before, with the same configuration, code and input")
        if self._run.left:
            check_fits(self._run.left, self._folder, self._config.benchmark.must_fit, self._say)

    def measure(self) -> None:
        """Run both."""
        (self._folder / PAGE).unlink(missing_ok=True)
        self.save("unfinished")
        self._run.measure(self._found, self._changed)
        if self._ceiling:
            with shared(self._ceiling, self._without, self._folder):
                self._ceiling.measure(self._run.done, self._ceiling_changed)
        if self._run.done:
            write_collection(self._folder, self._asked)
        report = self.save("failed" if any(tile["status"] == "failed" for tile in self.tiles) else "done")
        # The page of a sweep is about all its jobs.
        if sweep_of(self._folder) is None:
            whole = joint_report(self._folder, {self._folder: report})
            write_page(self._folder, whole)
            plots = write_plots(self._folder, whole)
            self._shown = [PAGE, *(str(path.relative_to(self._folder)) for path in plots)]

    def save(self, status: str) -> dict[str, Any]:
        """Write the report; what it says."""
        report = {
            "status": status,
            "error": None,
            **self._asked,
            "environment": self._machine,
            **self._run.describe(),
            "ceiling": self._ceiling.describe() if self._ceiling else None,
        }
        write_report(self._folder, report)
        return report

    def _changed(self, tile: Tile) -> None:
        self.save("unfinished")
        if tile["status"] == "failed":
            log.error("%s: %s", tile["tile"], tile["error"])
            return
        memory = tile["usage"]["peak_rss_bytes"] / 1e6
        speed = f"{tile['patches'] / tile['seconds']:.1f} patches/s, {tile['km2'] / tile['seconds']:.2f} km2/s"
        self._say(f"{tile['tile']}: {tile['seconds']:.2f} s, {speed}, {memory:.0f} MB at most")
        for verdict in tile["verdicts"]:
            if verdict["severity"] == "warning":
                log.warning("%s: %s", tile["tile"], verdict["sentence"])

    def _ceiling_changed(self, tile: Tile) -> None:
        self.save("unfinished")
        if tile["status"] == "failed":
            log.warning("%s: not measured without a model: %s", tile["tile"], tile["error"])

    def summarise(self) -> None:
        """Say in a few lines how fast it was, what took the time, and where the report lies."""
        own = self._run.describe()["totals"]
        if own["done"]:
            self._say(
                f"tiles: {own['done']}; {own['patches_per_second']:.1f} patches/s, {own['km2_per_second']:.2f} km2/s"
            )
            done = [tile for tile in self.tiles if tile["status"] == "done"]
            shares = (
                f"{stage} {sum(tile['stage_seconds'].get(stage, 0.0) for tile in done) / own['seconds']:.2f}"
                for stage in STAGES
            )
            if shares_of_estimate := [share for tile in done if (share := of_estimate(tile)) is not None]:
                told = f"{own['peak_rss_bytes'] / 1e9:.2f} GB at most, {max(shares_of_estimate):.2f} of the estimate"
                self._say(f"memory: {told}")
            self._say(f"busy, as a share of the time (summed over threads): {', '.join(shares)}")
        if self._ceiling and (ceiling := self._ceiling.describe()["totals"])["done"]:
            self._say(f"without a model (the ceiling of this machine): {ceiling['km2_per_second']:.2f} km2/s")
            if own["done"] == ceiling["done"] and own["seconds"] < ceiling["seconds"]:
                log.warning("%s", BEATEN)
        self._say(f"written to {self._folder}:")
        for name in (TABLE, REPORT, *self._shown):
            self._say(f"  {name}")


def _totals(tiles: Sequence[Tile]) -> dict[str, Any]:
    done = [tile for tile in tiles if tile["status"] == "done"]
    seconds, patches, km2 = (sum(tile[key] for tile in done) for key in ("seconds", "patches", "km2"))
    return {
        "done": len(done),
        "failed": len(tiles) - len(done),
        "seconds": seconds,
        "patches_per_second": patches / seconds if done else None,
        "km2_per_second": km2 / seconds if done else None,
        "peak_rss_bytes": max((tile["usage"]["peak_rss_bytes"] for tile in done), default=None),
    }


def _code_hash(config: Config) -> str:
    """sha256 of the code that runs, be it committed or not: benexp's, the exporters', and the modules of a user's own
    backend and layers.
    """
    own = [backend_class(config.backend), *(layer.function for layer in checked_layers(config))]
    files = {Path(file) for made in own if (file := _source(made))}
    for package in (benexp, exporters):
        files |= set(Path(package.__path__[0]).rglob("*.py"))
    return digest([sha256(file) for file in sorted(files)])


def _source(made: Any) -> str | None:
    """The file it was written in; None of what is not Python's."""
    module = inspect.getmodule(made)
    return getattr(module, "__file__", None)


def _is_there(folder: Path, tile: Tile) -> bool:
    """Whether a tile's results are those that were measured, and whole."""
    path = folder / tile["tile"] / RECORD
    if not path.exists():
        return False
    record = json.loads(path.read_text(encoding="utf-8"))
    sizes = {path.parent / name: about["bytes"] for name, about in record["files"].items()}
    whole = all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())
    return whole and bool(record["map_hash"] == tile["map_hash"])
