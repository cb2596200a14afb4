"""One tile with several backends: how their maps differ from the first one's, and how fast each of them was.

Every backend classifies the tile once, alone; a benchmark repeats and interleaves, which this task does not.
"""

import dataclasses
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benexp import cores, layers, pipeline
from benexp.backends.base import Backend
from benexp.classes import named
from benexp.config import Config
from benexp.errors import BenexpError
from benexp.files import staging
from benexp.grid import PatchGrid, ProbabilityGrid
from benexp.layers import Format, Layer
from benexp.measure.clocks import StageClocks
from benexp.measure.differences import FLIPS, Differences, differences
from benexp.models.spec import ModelSpec
from benexp.pipeline import Rendered
from benexp.products.integrity import check as check_integrity
from benexp.products.tile import Tile
from benexp.rasters import RasterWriter
from benexp.report.flips import frequent_changes, write_flips_picture
from benexp.tasks import results
from benexp.tasks.calibration import calibration_for_backend
from benexp.tasks.inputs import open_input, output_folder, products, results_folder
from benexp.tasks.plan import plan
from benexp.tasks.prepare import backend_class, make_backend, model_of
from benexp.usage import conf_folder, groups
from benexp.window import Window
from exporters.calibration import Calibration

log = logging.getLogger("benexp")

RECORD = "comparison.json"
"""Written last: where it is, the comparison is complete."""

SHARED = ("batch_size", "threads", "allow_fallback")
"""Keys of `backend` that hold for all that are compared, where the user says them."""

ROUGH = 5
"""Seconds of inference below which a speed may be off by a third."""

TAKES = "takes name, name:precision or name:precision:device"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of `backends`: `label` as the user wrote it, `settings` as `backend` would hold them."""

    label: str
    settings: Mapping[str, Any]

    @property
    def file(self) -> str:
        """The label as a part of a file's name."""
        return re.sub(r"[^\w.]+", "-", self.label)


@dataclasses.dataclass
class Ran:
    """What one backend made of the tile, and how long it took."""

    grid: ProbabilityGrid
    rendered: Rendered
    about: dict[str, Any]
    open_seconds: float
    seconds: float
    infer_seconds: float

    @property
    def patches_per_second(self) -> float:
        return int(self.grid.classified.sum()) / self.infer_seconds


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Compare what `backends` make of one product; the record. `say` is told the result as a table.

    Raises BenexpError, before any work, where the question is wrong, and before the long work, with nothing written,
    where one of the backends cannot run here.
    """
    entries = entries_of(config, overrides)
    found = products(config)
    if len(found) != 1:
        raise BenexpError(
            f"input_dir={config.input_dir}: task=compare takes one product, there are {len(found)}: "
            f"name one with tile_folder="
        )
    if config.dry_run:
        planned = plan(found[0], config, [FLIPS] * (len(entries) - 1), say)
        say(f"classified {len(entries)} times, with {', '.join(entry.label for entry in entries)}")
        return [planned]
    spec = model_of(config, *(entry.settings for entry in entries))
    return [_Comparison(found[0], config, overrides, spec, entries).run(say)]


def entries_of(config: Config, overrides: Sequence[str]) -> list[Entry]:
    """What is to be compared. Raises BenexpError where that is not two different backends, at least, that exist."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.startswith("backend.") and key.removeprefix("backend.") not in SHARED:
            raise BenexpError(
                f"{key}: task=compare takes only {', '.join(f'backend.{shared}' for shared in SHARED)}, which hold for "
                f"all; precision and device are part of an entry of backends="
            )
    if len(config.backends) < 2:
        raise BenexpError(
            f"backends=[{','.join(config.backends)}]: task=compare takes at least two, "
            f"such as backends=[torch,onnxruntime-cpu]; an entry {TAKES}; names: {', '.join(groups()['backend'])}"
        )
    said = {override.lstrip("+").partition("=")[0].removeprefix("backend.") for override in overrides}
    shared = {key: config.backend[key] for key in SHARED if key in said}
    entries = [_entry(label, shared) for label in config.backends]
    for index, entry in enumerate(entries):
        for other in entries[:index]:
            if entry.file == other.file or entry.settings == other.settings:
                raise BenexpError(
                    f"backends=[{','.join(config.backends)}]: {other.label} and {entry.label} are the same"
                )
    return entries


def _entry(label: str, shared: Mapping[str, Any]) -> Entry:
    name, *rest = label.split(":", 2)
    if not all([name, *rest]):
        raise BenexpError(f"backends: {label!r}: an entry {TAKES}")
    # A user's own class has no file in the group.
    settings = {"_target_": name} if "." in name else _settings(name, label)
    settings = {**settings, **shared, **dict(zip(("precision", "device"), rest, strict=False))}
    try:
        backend_class(settings)
    except BenexpError as error:
        raise BenexpError(f"backends: {label}: {error}") from error
    return Entry(label, settings)


def _settings(name: str, label: str) -> dict[str, Any]:
    """conf/backend/<name>.yaml."""
    if name not in groups()["backend"]:
        raise BenexpError(f"backends: {label}: unknown name, it takes {', '.join(groups()['backend'])}")
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load(conf_folder() / "backend" / f"{name}.yaml"), resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


@dataclasses.dataclass
class _Comparison:
    """One product on its way to a folder of comparisons."""

    product: Path
    config: Config
    overrides: Sequence[str]
    spec: ModelSpec
    entries: Sequence[Entry]
    calibration: Calibration | None = None

    def run(self, say: Callable[[str], object]) -> dict[str, Any]:
        with open_input(self.product, self.config, self.spec.bands) as tile:
            patches = PatchGrid(tile.shape, self.spec.patch_size, self.config.chunking.stride)
            folder = results_folder(self.config, self.product, tile)
            # Not beside the first backend, as classify does: it would take cores from that one alone.
            check_integrity(tile.product, self.config.integrity, self.spec.bands)
            self.calibration = calibration_for_backend(
                [self.product], self.config, self.spec, [entry.settings for entry in self.entries]
            )
            self._try_all()
            with output_folder(folder), staging(folder) as unfinished:
                record, files = self._compare(tile, patches, unfinished)
                record["files"] = {path.name: results.describe_file(path) for path in files}
                results.publish(files, folder, record, RECORD)
        _summarise(folder, record, say)
        return record

    def _make(self, settings: Mapping[str, Any]) -> Backend:
        return make_backend(settings, self.spec, tolerances=self.config.export.tolerance, calibration=self.calibration)

    def _try_all(self) -> None:
        """Open every backend once; one error for all that cannot be."""
        problems = []
        for entry in self.entries:
            settings = dict(entry.settings)
            if settings.get("batch_size") == "auto":
                settings["batch_size"] = (
                    self.spec.batch or 1
                )  # choosing takes a while, and is done when the tile's turn comes
            try:
                with self._make(settings):
                    pass
            except BenexpError as error:
                problems.append(f"{entry.label}: {error}")
        if problems:
            raise BenexpError(
                f"{len(problems)} of {len(self.entries)} backends cannot run here, nothing was compared: "
                + "; ".join(problems)
            )

    def _compare(self, tile: Tile, patches: PatchGrid, folder: Path) -> tuple[dict[str, Any], list[Path]]:
        """The record but for its files, and the files made in `folder`."""
        started = time.perf_counter()
        first, *others = self.entries
        reference = self._classify(first, patches)
        if not reference.rendered.pixels.sum():
            raise BenexpError(f"{tile.name}: no pixel could be classified, there is nothing to compare")
        same = Differences.none(len(self.spec.classes), int(reference.rendered.pixels.sum()))
        pixel_area = abs(tile.transform.a * tile.transform.e)
        backends = [_describe(first, reference, reference, same, self.spec.classes, pixel_area)]
        files: list[Path] = []
        for entry in others:
            ran = self._classify(entry, patches)
            found, rasters = self._differences(tile, folder, entry, reference, ran)
            described = _describe(entry, ran, reference, found, self.spec.classes, pixel_area)
            picture = folder / f"{entry.file}_flips.png"
            write_flips_picture(
                picture,
                reference.rendered.thumbnail,
                found,
                named(self.spec.classes),
                f"{entry.label} against {first.label}",
                f"{tile.name}, {self.spec.name}",
                _figures(described),
            )
            backends.append(described)
            files += [*rasters, picture]
        record = {
            **results.describe_work(self.config, self.overrides, self.spec, tile, reference.grid),
            "compared_pixels": same.pixels,
            "reference": first.label,
            "notes": _notes(backends),
            "seconds": round(time.perf_counter() - started, 3),
            "backends": backends,
        }
        return record, files

    def _classify(self, entry: Entry, patches: PatchGrid) -> Ran:
        """Classify the tile; never reuses what an earlier run saved, and opens the tile anew, whose cache is empty."""
        log.info("%s: classifying (%d of %d)", entry.label, self.entries.index(entry) + 1, len(self.entries))
        clocks = StageClocks()
        chunking = self.config.chunking
        with open_input(self.product, self.config, self.spec.bands, warn=False) as tile:
            with clocks.stage("open"):
                backend = self._make(entry.settings)
                backend.open()
            try:
                with clocks.stage("classify"):
                    grid = pipeline.classify(
                        tile,
                        backend,
                        patches,
                        chunk_size=chunking.chunk_size,
                        min_valid=chunking.min_valid,
                        clocks=clocks,
                    )
                about = backend.describe()
            finally:
                backend.close()
        rendered = pipeline.render(
            grid,
            [_Nowhere(layers.build({"names": ["class"]}, self.spec.classes)[0])],
            self.spec.classes,
            blend_shape=chunking.blend,
            clocks=clocks,
            threads=cores.available(),
        )
        took = clocks.seconds
        return Ran(grid, rendered, about, took["open"], took["classify"], took["infer"])

    def _differences(
        self, tile: Tile, folder: Path, entry: Entry, reference: Ran, candidate: Ran
    ) -> tuple[Differences, list[Path]]:
        """The differences, and the files of their map: the GeoTIFF last."""
        # Whatever the precision: at int8's own, nearly every flip would be called a tie.
        tolerance = self.config.export.tolerance["fp32"]
        tags = results.tags(self.config, self.spec) | {
            "REFERENCE": self.entries[0].label,
            "CANDIDATE": entry.label,
            "TIE_TOLERANCE": f"{tolerance:g}",
        }
        writer: RasterWriter[Format] = RasterWriter(
            folder / f"{entry.file}_flips.tif",
            FLIPS,
            shape=tile.shape,
            crs=tile.crs,
            transform=tile.transform,
            tags=tags,
            class_names=self.spec.classes,
        )
        with writer:
            found = differences(
                reference.grid,
                candidate.grid,
                blend_shape=self.config.chunking.blend,
                tolerance=tolerance,
                threads=cores.available(),
                take=writer.write,
            )
            writer.finish()
            writer.publish()
        return found, writer.files


@dataclasses.dataclass
class _Nowhere:
    """Lets a map be rendered for its hash, its areas and its reduced copy alone."""

    layer: Layer

    def write(self, values: npt.NDArray[Any], window: Window) -> None:
        pass


def _describe(
    entry: Entry, ran: Ran, reference: Ran, found: Differences, class_names: tuple[str, ...], pixel_area: float
) -> dict[str, Any]:
    """What the record says of one backend."""
    change = (ran.rendered.pixels - reference.rendered.pixels).tolist()
    return {
        "label": entry.label,
        "precision": ran.about["precision"],
        "describe": ran.about,
        "settings": dict(entry.settings),
        "patches_per_second": round(ran.patches_per_second, 3),
        "speed_ratio": round(ran.patches_per_second / reference.patches_per_second, 4),
        "open_seconds": round(ran.open_seconds, 3),
        "seconds": round(ran.seconds, 3),
        "infer_seconds": round(ran.infer_seconds, 3),
        "map_hash": ran.rendered.map_hash,
        "flips_per_million": found.flips_per_million,
        "beyond_ties_per_million": found.beyond_ties_per_million,
        "tie_tolerance": found.tolerance,
        "prob_diff_max": found.prob_diff_max,
        "prob_diff_mean": found.prob_diff_mean,
        "prob_diff_p99": found.prob_diff_p99,
        "area_change": [
            {
                "class_id": c.id,
                "class_name": c.name,
                "hectares": pixels * pixel_area / 10_000,
                "share": pixels / found.pixels,
            }
            for c, pixels in zip(named(class_names), change, strict=True)
        ],
        "flips": [
            {"reference": class_names[old], "candidate": class_names[new], "pixels": pixels}
            for old, new, pixels in frequent_changes(found)
        ],
    }


def _notes(backends: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of the figures must know; said to the user, too."""
    reference = backends[0]
    notes = []
    if reference["precision"] != "fp32":
        notes.append(f"the reference, {reference['label']}, is {reference['precision']}: nothing is compared with fp32")
    notes += [f"{b['label']} ran on {fallback}" for b in backends if (fallback := b["describe"].get("fallback"))]
    for note in notes:
        log.warning("%s", note)
    return notes


def _figures(backend: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the picture says of one backend."""
    return [
        ("Flips per million pixels", _number(backend["flips_per_million"])),
        ("... beyond ties", _number(backend["beyond_ties_per_million"])),
        ("Largest probability difference", f"{backend['prob_diff_max']:.2g}"),
        ("... of 99 % of the pixels", f"{backend['prob_diff_p99']:.2g}"),
        ("... on average", f"{backend['prob_diff_mean']:.2g}"),
        ("Patches per second", _number(backend["patches_per_second"])),
        ("... times the reference's", f"{backend['speed_ratio']:.2f}"),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _summarise(folder: Path, record: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """The table that the user came for, and where the rest is."""
    head = (
        "backend",
        "precision",
        "batch",
        "patches/s",
        "ratio",
        "flips/million",
        "beyond ties",
        "max diff",
        "p99 diff",
    )
    rows = [head]
    for i, b in enumerate(record["backends"]):
        speed = (f"{b['patches_per_second']:.1f}", f"{b['speed_ratio']:.2f}")
        flips = (_number(b["flips_per_million"]), _number(b["beyond_ties_per_million"]))
        parity = (*flips, f"{b['prob_diff_max']:.1e}", f"{b['prob_diff_p99']:.1e}") if i else ("reference", "", "", "")
        rows.append((b["label"], b["precision"], str(b["describe"]["batch_size"]), *speed, *parity))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
    if (shortest := min(b["infer_seconds"] for b in record["backends"])) < ROUGH:
        say(f"speeds are rough: {shortest:.1f} s of inference is little to go by")
    say(f"{record['tile']}: {record['compared_pixels']:,} pixels compared in {record['seconds']:.1f} s")
    say(f"written to {folder}:")
    for name in (*record["files"], RECORD):
        say(f"  {name}")
