"""The picture of a confusion matrix, and the tables beside it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benexp.core.classes import CLASSES, NAMES

pytest.importorskip("sklearn")
from benexp.measure.accuracy import MapAccuracy, label_accuracy, map_accuracy
from benexp.report.accuracy_tables import write_confusion, write_label_accuracy, write_map_accuracy
from benexp.report.confusion import write_confusion_picture


def accuracy(cells: dict[tuple[int, int], int]) -> MapAccuracy:
    matrix = np.zeros((19, 19), np.int64)
    for cell, pixels in cells.items():
        matrix[cell] = pixels
    return map_accuracy(matrix)


def picture(path: Path, found: MapAccuracy) -> Image.Image:
    figures = [("overall accuracy", "0.9"), ("pixels compared", "120")]
    write_confusion_picture(path / "c.png", found, CLASSES, "Zürich " * 20, "demo " * 60, figures)
    return Image.open(path / "c.png").convert("RGB")


def count(page: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(page) == colour).all(axis=2).sum())


def test_right_and_wrong_have_their_colours(tmp_path: Path) -> None:
    page = picture(tmp_path, accuracy({(1, 1): 40, (18, 1): 30}))
    right, wrong = count(page, (0, 104, 84)), count(page, (196, 62, 36))
    assert right == pytest.approx(64**2, rel=0.15)  # but for the letters
    assert wrong == pytest.approx(64**2, rel=0.15)
    assert count(page, CLASSES[18].rgb) == 2 * 21**2  # a swatch for the row, one for the column
    assert count(page, CLASSES[5].rgb) == 0


def test_it_grows_with_the_classes_present(tmp_path: Path) -> None:
    one = picture(tmp_path, accuracy({(3, 3): 1}))
    all_of_them = picture(tmp_path, accuracy({(i, (i * 7) % 19): 10**i % 9973 + 1 for i in range(19)}))
    assert all_of_them.height - one.height == 18 * 64
    assert all_of_them.width > one.width


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_a_map(tmp_path: Path) -> None:
    found = accuracy({(1, 1): 40, (1, 2): 10, (2, 2): 50})
    write_confusion(tmp_path / "c.csv", found, NAMES)
    table = rows(tmp_path / "c.csv")
    assert [row["reference \\ map"] for row in table] == list(NAMES)
    assert table[1][NAMES[2]] == "10"
    assert sum(int(row[name]) for row in table for name in NAMES) == 100
    write_map_accuracy(tmp_path / "a.csv", found, NAMES)
    *classes, macro = rows(tmp_path / "a.csv")
    assert len(classes) == 19
    assert classes[0]["iou"] == classes[0]["f1"] == classes[1]["kappa"] == ""
    assert (classes[1]["reference_pixels"], classes[1]["map_pixels"], classes[1]["iou"]) == ("50", "40", "0.800000")
    assert (macro["class_name"], macro["overall_accuracy"], macro["kappa"]) == ("macro", "0.900000", "0.800000")
    assert float(macro["iou"]) == pytest.approx((40 / 50 + 50 / 60) / 2, abs=1e-6)


def test_the_table_of_labels(tmp_path: Path) -> None:
    truth = np.zeros((4, 19), bool)
    truth[:2, 3] = True
    probabilities = np.zeros((4, 19), np.float32)
    probabilities[1:, 3] = 0.9, 0.8, 0.1
    write_label_accuracy(tmp_path / "a.csv", label_accuracy(truth, probabilities, np.full(19, 0.5, np.float32)), NAMES)
    *classes, macro, micro = rows(tmp_path / "a.csv")
    assert [row["labelled"] for row in classes].count("0") == 18
    assert (classes[3]["labelled"], classes[3]["predicted"], classes[3]["f1"]) == ("2", "2", "0.500000")
    assert classes[0]["average_precision"] == ""
    assert macro["average_precision"] == classes[3]["average_precision"] == "0.750000"
    assert (macro["class_name"], micro["class_name"], micro["labelled"]) == ("macro", "micro", "2")
