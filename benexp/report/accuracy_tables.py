"""Accuracy as CSV: a row per class, then the means; what is undefined is empty."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benexp.core.files import replacing
from benexp.measure.accuracy import LabelAccuracy, MapAccuracy


def write_label_accuracy(path: Path, accuracy: LabelAccuracy, class_names: Sequence[str]) -> None:
    """A row per class, then `macro` and `micro`."""
    scores = (accuracy.average_precision, accuracy.precision, accuracy.recall, accuracy.f1)
    head = ("class_id", "class_name", "labelled", "predicted", "average_precision", "precision", "recall", "f1")
    rows: list[list[object]] = [
        [i, name, accuracy.labelled[i], accuracy.predicted[i], *(score.classes[i] for score in scores)]
        for i, name in enumerate(class_names)
    ]
    totals = [accuracy.labelled.sum(), accuracy.predicted.sum()]
    rows.append(["", "macro", *totals, *(score.macro for score in scores)])
    rows.append(["", "micro", *totals, *(score.micro for score in scores)])
    _write(path, [head, *rows])


def write_map_accuracy(path: Path, accuracy: MapAccuracy, class_names: Sequence[str]) -> None:
    """A row per class, then `macro`, which has the figures of the whole map, too."""
    head = ("class_id", "class_name", "reference_pixels", "map_pixels", "precision", "recall", "f1", "iou")
    reference, mapped = accuracy.confusion.sum(axis=1), accuracy.confusion.sum(axis=0)
    rows: list[list[object]] = [
        [
            *(i, name, reference[i], mapped[i]),
            *(accuracy.precision[i], accuracy.recall[i], accuracy.f1[i], accuracy.iou[i]),
            *("", ""),
        ]
        for i, name in enumerate(class_names)
    ]
    macro = [accuracy.macro[name] for name in ("precision", "recall", "f1", "iou")]
    rows.append(["", "macro", reference.sum(), mapped.sum(), *macro, accuracy.overall, accuracy.kappa])
    _write(path, [(*head, "overall_accuracy", "kappa"), *rows])


def write_confusion(path: Path, accuracy: MapAccuracy, class_names: Sequence[str]) -> None:
    """Pixels: a row per class of the reference, a column per class of the map."""
    rows = [[name, *row] for name, row in zip(class_names, accuracy.confusion.tolist(), strict=True)]
    _write(path, [["reference \\ map", *class_names], *rows])


def _write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, float):  # numpy's float64, too
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
