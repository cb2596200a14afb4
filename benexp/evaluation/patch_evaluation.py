"""The accuracy of a backend on labelled BigEarthNet patches."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benexp.backends.base import Backend
from benexp.config.schema import Config
from benexp.core import cores
from benexp.core.classes import NAMES
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.files import staging
from benexp.evaluation.evaluation_report import describe_question, figure, listed, notes, plain, say_files, say_table
from benexp.evaluation.labelled_patches import Labelled, Patches, open_patches, read_metadata
from benexp.mapping import layers
from benexp.mapping.layers import AboveThresholds
from benexp.mapping.pipeline import in_order
from benexp.measure.accuracy import LabelAccuracy, label_accuracy
from benexp.models.spec import ModelSpec
from benexp.records.evaluation import EvaluatedPatches, PatchClassScores, PatchEvaluation
from benexp.records.names import EVALUATION
from benexp.report.accuracy_tables import write_label_accuracy
from benexp.runs.backend_choice import BackendChoice, choose_backend
from benexp.runs.inputs import output_folder, products
from benexp.runs.plan import resolve_model
from benexp.runs.publishing import describe_file, publish
from benexp.runs.quantization import range_patches_for


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The patches to classify, and how many there are of those that are not, by the reason."""

    names: list[str]
    truth: npt.NDArray[np.bool_]
    """[patches, classes]"""
    left_out: dict[str, int]


def choose(
    patches: Patches, rows: Mapping[str, Labelled], split: str | None, classes: Sequence[str], where: str
) -> Chosen:
    """The labelled patches of a split. Raises BenexpError where there are none, or a label is no class."""
    wanted = {name: row.labels for name, row in rows.items() if split is None or row.split == split}
    if not wanted:
        splits = sorted({str(row.split) for row in rows.values()})
        raise BenexpError(
            f"evaluate.split={split}: {where} has no patches of it (splits: {', '.join(splits) or 'none'})"
        )
    names = sorted(name for name, labels in wanted.items() if labels and name in patches.names)
    if not names:
        raise BenexpError(
            f"evaluate.patches and {where} have no labelled patch{f' of split {split}' if split else ''} in common, "
            f"such as {next(iter(wanted))}: do they belong together?"
        )
    index = {name: i for i, name in enumerate(classes)}
    truth = np.zeros((len(names), len(classes)), bool)
    for row, name in zip(truth, names, strict=True):
        if strangers := [label for label in wanted[name] if label not in index]:
            raise BenexpError(
                f"{where}: {strangers[0]!r}, a label of {name}, is not one of the {len(classes)} classes of the model"
            )
        row[[index[label] for label in wanted[name]]] = True
    return Chosen(
        names,
        truth,
        {
            "labelled but not in evaluate.patches": sum(
                bool(labels) and name not in patches.names for name, labels in wanted.items()
            ),
            "without labels": sum(name not in rows or not rows[name].labels for name in patches.names),
            "of another split": sum(
                name not in wanted and name in rows and bool(rows[name].labels) for name in patches.names
            ),
        },
    )


def evaluate_patches(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> PatchEvaluation | None:
    """Classify the labelled patches of `evaluate.split` and compare the answers with their labels; the record."""
    started = time.perf_counter()
    asked = config.evaluate
    assert asked.patches
    if not asked.metadata:
        raise BenexpError("evaluate.metadata= is missing: the metadata.parquet that belongs to evaluate.patches")
    choice = choose_backend(config.backend)
    metadata = Path(asked.metadata).expanduser()
    rows = read_metadata(metadata, with_split=asked.split is not None)
    path = Path(asked.patches).expanduser()
    patches = open_patches(path)
    chosen = choose(patches, rows, asked.split, NAMES, str(metadata))
    name = f"{path.resolve().name}_{asked.split or 'all'}"
    if config.dry_run:
        say(f"{name}: {len(chosen.names)} patches would be classified; left out: {listed(chosen.left_out)}")
        return None
    folder = Path(config.output_folder) / name
    spec = resolve_model(config, choice)
    if spec.classes != NAMES:
        raise BenexpError(f"model {spec.name} has other classes than BigEarthNet's {len(NAMES)}, which labels are of")
    thresholds = _thresholds(config, spec)
    clocks = StageClocks()
    with clocks.stage("load"):
        backend = _backend(config, choice, spec)
        backend.open()
    try:
        probabilities, classified = _classify(backend, patches, chosen.names, config.chunking.min_valid, clocks)
        described = backend.describe()
    finally:
        backend.close()
    count = int(classified.sum())
    left_out = {**chosen.left_out, "with too few valid pixels": len(classified) - count}
    if not count:
        raise BenexpError(
            f"{path}: no patch has enough valid pixels for chunking.min_valid={config.chunking.min_valid}"
        )
    accuracy = label_accuracy(chosen.truth[classified], probabilities[classified], thresholds)
    with output_folder(folder), staging(folder) as staged:
        table = staged / f"{name}_accuracy.csv"
        write_label_accuracy(table, accuracy, spec.classes)
        record = PatchEvaluation(
            name=name,
            patches=EvaluatedPatches(count, left_out),
            path=str(path),
            metadata=str(metadata),
            split=asked.split,
            thresholds=[float(f"{t:g}") for t in thresholds],
            **_figures(accuracy, spec.classes),
            patches_per_second=round(count / clocks.seconds["infer"], 3),
            stage_seconds=clocks.rounded(),
            model=spec.record,
            backend=described,
            backend_name=choice.name,
            **describe_question(config, overrides),
            notes=notes(spec.trained),
            seconds=round(time.perf_counter() - started, 3),
            files={table.name: describe_file(table)},
        )
        publish([table], folder, record, EVALUATION)
    _summarise(record, accuracy, say)
    say_files(say, folder, record)
    return record


def _backend(config: Config, choice: BackendChoice, spec: ModelSpec) -> Backend:
    """Made as a tile's is; products that are named are what int8 is calibrated on."""
    named = config.tile_folder or config.input_dir or config.demo.size
    range_patches = range_patches_for(products(config), config, spec, choice) if named else None
    if named and range_patches is None:
        raise BenexpError(
            "tile_folder, input_dir and demo.size are what an int8 backend is calibrated on beside evaluate.patches: "
            "leave them out, or set backend.precision=int8"
        )
    return choice.make(spec, tolerances=config.export.tolerance, range_patches=range_patches)


def _thresholds(config: Config, spec: ModelSpec) -> npt.NDArray[np.float32]:
    """Those of the layer `multilabel`."""
    layer = layers.build({"names": ["multilabel"], "thresholds": config.layers.thresholds}, spec.classes)[0]
    assert isinstance(layer.function, AboveThresholds)
    return np.array(layer.function.thresholds, np.float32)


def _classify(
    backend: Backend, patches: Patches, names: Sequence[str], min_valid: float, clocks: StageClocks
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The probabilities [patches, classes] of those that are valid enough, and which ones these are."""
    spec = backend.spec
    size, batch = spec.patch_size, backend.batch_size
    probabilities = np.zeros((len(names), len(spec.classes)), np.float32)
    classified = np.zeros(len(names), bool)

    def read(name: str) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
        with clocks.stage("read"):
            return patches.read(name, spec.bands, size)

    threads = cores.available()
    with (
        ThreadPoolExecutor(threads, "read") as pool,
        contextlib.closing(in_order(pool, read, names, ahead=batch + threads)) as reading,
        tqdm(total=len(names), desc="classify", unit="patch", disable=None) as bar,
    ):
        for start in range(0, len(names), batch):
            # One above the other they are a chunk like any other, so that batches are full.
            pixels, valid = zip(*itertools.islice(reading, batch), strict=True)
            chunk, mask = np.concatenate(pixels, axis=1), np.concatenate(valid)
            wanted = mask.reshape(len(pixels), -1).mean(axis=1) >= min_valid
            origins = np.stack([size * np.arange(len(pixels)), np.zeros(len(pixels), np.int64)], axis=1)
            here = slice(start, start + len(pixels))
            with clocks.stage("infer"):
                probabilities[here][wanted] = backend.classify(chunk, mask, origins[wanted])
            classified[here] = wanted
            bar.update(len(pixels))
    return probabilities, classified


def _figures(accuracy: LabelAccuracy, classes: Sequence[str]) -> dict[str, Any]:
    scores = {name: getattr(accuracy, name) for name in ("average_precision", "precision", "recall", "f1")}
    return {
        "macro": {name: plain(score.macro) for name, score in scores.items()},
        "micro": {name: plain(score.micro) for name, score in scores.items()},
        "classes": [
            PatchClassScores(
                class_id=i,
                class_name=name,
                labelled=int(accuracy.labelled[i]),
                predicted=int(accuracy.predicted[i]),
                **{key: plain(score.classes[i]) for key, score in scores.items()},
            )
            for i, name in enumerate(classes)
        ],
    }


def _summarise(record: PatchEvaluation, accuracy: LabelAccuracy, say: Callable[[str], object]) -> None:
    ap, f1 = accuracy.average_precision, accuracy.f1
    rows = [
        (name, f"{accuracy.labelled[i]:,}", ap.classes[i], f1.classes[i])
        for i, name in enumerate(NAMES)
        if accuracy.labelled[i] or accuracy.predicted[i]
    ]
    say_table(say, ("class", "labelled", "AP", "F1"), rows)
    assert record.backend
    say(
        f"{record.name}: {record.patches.evaluated:,} patches with {record.model.name} on "
        f"{record.backend_name} at {record.backend['precision']}, {record.patches_per_second:.1f}/s; "
        f"left out: {listed(record.patches.left_out)}"
    )
    say(f"AP macro {figure(ap.macro)}, micro {figure(ap.micro)}; F1 macro {figure(f1.macro)}, micro {figure(f1.micro)}")
    say(f"macro: over the {np.count_nonzero(accuracy.labelled)} classes with a label")
