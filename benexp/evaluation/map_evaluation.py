"""The agreement of a map with a raster of the true classes."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benexp.config.schema import Config
from benexp.core.classes import CLASSES, NAMES
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.evaluation.evaluation_report import describe_question, figure, listed, notes, plain, say_files, say_table
from benexp.evaluation.reference import WORDS, Confusion, MapGrid, Reference, map_grid
from benexp.execution.classify_products import classify_products
from benexp.measure.accuracy import MapAccuracy, map_accuracy
from benexp.products.region import region_of
from benexp.records.evaluation import ComparedPixels, MapClassScores, MapEvaluation
from benexp.records.names import EVALUATION, RUN
from benexp.records.run import RunRecord
from benexp.records.storage import read_record, to_dict
from benexp.report.accuracy_tables import write_confusion, write_map_accuracy
from benexp.report.confusion import write_confusion_picture
from benexp.runs.backend_choice import choose_backend
from benexp.runs.estimate import DryRun, dry_run
from benexp.runs.inputs import Reading, open_input, output_folder, products
from benexp.runs.plan import plan_run, requested_layers
from benexp.runs.publishing import describe_file, publish

GRID_BAND = "B02"
"""Every product has it, and it lies on the tile's grid."""


@dataclass(frozen=True)
class Map:
    """A class map, and as far as it is known the run that made it."""

    path: Path
    map_hash: str | None = None
    model: dict[str, Any] | None = None
    backend: dict[str, Any] | None = None
    backend_name: str | None = None
    trained: bool = True
    notes: Sequence[str] = ()

    @classmethod
    def of_run(cls, path: Path, record: RunRecord) -> "Map":
        """The map at `path` that the run of `record` made."""
        model = record.model
        return cls(path, record.map_hash, to_dict(model), record.backend, record.backend_name, model.trained)

    @property
    def name(self) -> str:
        return self.path.stem.removesuffix("_class")

    @property
    def words(self) -> str:
        """Model, backend and precision."""
        if not self.model or not self.backend:
            return "a map"
        return f"{self.model['name']} on {self.backend_name} at {self.backend['precision']}"


def evaluate_map(
    config: Config, overrides: Sequence[str], say: Callable[[str], object]
) -> MapEvaluation | DryRun | None:
    """Compare a map, given or classified now, with `evaluate.reference`; the record."""
    started = time.perf_counter()
    asked = config.evaluate
    if asked.map and (config.tile_folder or config.input_dir or config.demo.size):
        raise BenexpError("evaluate.map and a product to classify exclude each other: name one")
    product = None if asked.map else _product(config)
    if asked.map:
        path = Path(asked.map).expanduser()
        grid, tags = map_grid(path)
    else:
        assert product
        with open_input(product, Reading.of(config), (GRID_BAND,), warn=False) as tile:
            region = region_of(tile, dataclasses.asdict(config.region))
            grid = MapGrid(region.shape, tile.crs, region.transform)
    if asked.reference:
        truth = Path(asked.reference).expanduser()
    else:
        assert product  # a made-up one, which has its truth beside it
        truth = product.with_name(f"{product.stem}_truth.tif")
    with Reference(truth, grid) as reference:
        codes = reference.codes(asked.reference_codes)  # before the long work
        if config.dry_run:
            planned = None
            if product:
                planned = dry_run(product, config, choose_backend(config.backend), requested_layers(config), say)
            say(f"{(product or path).name} would be compared with {truth.name}, read as {WORDS[codes]}")
            return planned
        if product:
            made = classify_products(plan_run(config, overrides, [product]), say)[0]
            mapped = Map.of_run(Path(config.output_folder) / made.folder / f"{made.tile}_class.tif", made)
        else:
            mapped = _known(path, tags)
        confusion = reference.compare(mapped.path, codes)
    accuracy = map_accuracy(confusion.matrix)
    folder = mapped.path.parent if product else Path(config.output_folder) / mapped.name
    with output_folder(folder), staging(folder) as staged:
        against = f"{mapped.words}, against {truth.name} ({WORDS[codes]})"
        files = _write(staged, mapped.name, accuracy, against)
        record = MapEvaluation(
            name=mapped.name,
            map=str(mapped.path),
            map_file=describe_file(mapped.path),
            map_hash=mapped.map_hash,
            reference=str(truth),
            reference_file=describe_file(truth),
            reference_codes=codes,
            pixels=ComparedPixels(int(confusion.matrix.sum()), _left_out(confusion)),
            **_figures(accuracy),
            model=mapped.model,
            backend=mapped.backend,
            backend_name=mapped.backend_name,
            **describe_question(config, overrides),
            notes=notes(mapped.trained, mapped.notes),
            seconds=round(time.perf_counter() - started, 3),
            files={file.name: describe_file(file) for file in files},
        )
        publish(files, folder, record, EVALUATION)
    _summarise(mapped.name, f"{truth.name}, read as {WORDS[codes]}", accuracy, _left_out(confusion), say)
    say_files(say, folder, record)
    return record


def _product(config: Config) -> Path:
    found = products(config)
    if len(found) != 1:
        raise BenexpError(f"task=evaluate takes one product, there are {len(found)}: name one with tile_folder=")
    return found[0]


def _known(path: Path, tags: Mapping[str, str]) -> Map:
    """The map with its run's record, if that lies beside it, else with what its tags hold."""
    beside = path.parent / RUN
    why = f"no {RUN} of this map is beside it"
    if beside.is_file():
        try:
            made = read_record(beside, RunRecord)
        except BenexpError as error:  # one of another version of benexp, most likely
            why = str(error)
        else:
            if made.files.get(path.name) == describe_file(path):
                return Map.of_run(path, made)
    note = f"{path}: model and backend are what its tags hold: {why}"
    if "MODEL" not in tags:
        return Map(path, notes=[note])
    trained = not tags.get("WEIGHTS", "").startswith("RANDOM")
    model = {"name": tags["MODEL"], "revision": tags.get("REVISION"), "trained": trained}
    backend = {"precision": tags.get("PRECISION")}
    return Map(path, None, model, backend, tags.get("BACKEND"), trained, [note])


def _left_out(confusion: Confusion) -> dict[str, int]:
    """Pixels by the reason that they are not compared."""
    return {
        "without a class in the map": confusion.map_nodata,
        "without a value in the reference": confusion.reference_nodata,
        **{f"of value {value} in the reference": count for value, count in confusion.unlabelled.items()},
    }


def _write(folder: Path, name: str, accuracy: MapAccuracy, subtitle: str) -> list[Path]:
    """Tables and picture; what was written."""
    files = [folder / f"{name}_{what}" for what in ("confusion.csv", "accuracy.csv", "confusion.png")]
    matrix, table, picture = files
    write_confusion(matrix, accuracy, NAMES)
    write_map_accuracy(table, accuracy, NAMES)
    figures = [
        ("overall accuracy", figure(accuracy.overall)),
        ("kappa", figure(accuracy.kappa)),
        ("F1, macro", figure(accuracy.macro["f1"])),
        ("IoU, macro", figure(accuracy.macro["iou"])),
        ("pixels compared", f"{accuracy.confusion.sum():,}"),
    ]
    write_confusion_picture(picture, accuracy, CLASSES, name, subtitle, figures)
    return files


def _summarise(
    name: str, reference: str, accuracy: MapAccuracy, left_out: Mapping[str, int], say: Callable[[str], object]
) -> None:
    pixels = accuracy.confusion.sum(axis=1)
    rows = [(NAMES[i], f"{pixels[i]:,}", accuracy.f1[i], accuracy.iou[i]) for i in accuracy.present]
    say_table(say, ("class", "pixels", "F1", "IoU"), rows)
    f1, iou = figure(accuracy.macro["f1"]), figure(accuracy.macro["iou"])
    say(f"{name} against {reference}:")
    say(
        f"overall accuracy {figure(accuracy.overall)}, kappa {figure(accuracy.kappa)}, F1 macro {f1}, IoU macro {iou} "
        f"of {pixels.sum():,} pixels; left out: {listed(left_out)}"
    )


def _figures(accuracy: MapAccuracy) -> dict[str, Any]:
    figures = {name: getattr(accuracy, name) for name in ("precision", "recall", "f1", "iou")}
    return {
        "overall_accuracy": plain(accuracy.overall),
        "kappa": plain(accuracy.kappa),
        "macro": {name: plain(value) for name, value in accuracy.macro.items()},
        "classes": [
            MapClassScores(
                class_id=i,
                class_name=name,
                reference_pixels=int(accuracy.confusion[i].sum()),
                map_pixels=int(accuracy.confusion[:, i].sum()),
                **{key: plain(values[i]) for key, values in figures.items()},
            )
            for i, name in enumerate(NAMES)
        ],
        "confusion": accuracy.confusion.tolist(),
    }
