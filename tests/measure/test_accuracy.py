"""Figures worked out by hand."""

import sys

import numpy as np
import pytest

from benexp.core.errors import BenexpError

pytest.importorskip("sklearn")
from benexp.measure.accuracy import label_accuracy, map_accuracy


def confusion(cells: dict[tuple[int, int], int]) -> np.ndarray:
    matrix = np.zeros((19, 19), np.int64)
    for cell, pixels in cells.items():
        matrix[cell] = pixels
    return matrix


def test_a_map_by_hand() -> None:
    found = map_accuracy(confusion({(1, 1): 50, (1, 2): 10, (2, 2): 30, (2, 1): 10, (3, 2): 0, (4, 1): 20}))
    assert found.present.tolist() == [1, 2, 4]
    assert found.precision[[1, 2]] == pytest.approx([50 / 80, 30 / 40])
    assert found.recall[[1, 2, 4]] == pytest.approx([50 / 60, 30 / 40, 0])
    assert found.f1[[1, 2, 4]] == pytest.approx([100 / 140, 0.75, 0])
    assert found.iou[[1, 2, 4]] == pytest.approx([50 / 90, 30 / 50, 0])
    assert found.overall == pytest.approx(80 / 120)
    # Chance: (60 * 80 + 40 * 40 + 20 * 0) / 120^2.
    chance = 6400 / 14400
    assert found.kappa == pytest.approx((80 / 120 - chance) / (1 - chance))
    assert found.macro["iou"] == pytest.approx((50 / 90 + 0.6 + 0) / 3)
    assert found.macro["precision"] == pytest.approx((50 / 80 + 0.75) / 2)  # the map has no class 4


def test_classes_that_neither_has_are_undefined() -> None:
    found = map_accuracy(confusion({(7, 7): 3}))
    assert np.flatnonzero(~np.isnan(found.iou)).tolist() == [7]
    assert found.macro["f1"] == 1
    assert np.isnan(found.kappa)


def test_a_class_that_only_the_map_has_counts_as_wrong() -> None:
    found = map_accuracy(confusion({(7, 7): 3, (7, 8): 1}))
    assert found.iou[8] == 0
    assert np.isnan(found.recall[8])
    assert found.macro["iou"] == pytest.approx(0.75 / 2)


def test_a_whole_tile_is_counted_exactly() -> None:
    found = map_accuracy(confusion({(0, 0): 120_560_399, (0, 1): 1}))
    assert found.overall == 120_560_399 / 120_560_400
    assert found.precision[1] == 0


TRUTH = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
PROBABILITIES = np.array([[0.9, 0.6, 0.1], [0.8, 0.7, 0.2], [0.7, 0.2, 0.1], [0.1, 0.1, 0.1]], np.float32)


def test_labels_by_hand() -> None:
    found = label_accuracy(TRUTH, PROBABILITIES, np.full(3, 0.5, np.float32))
    assert found.labelled.tolist() == [2, 2, 0]
    assert found.predicted.tolist() == [3, 2, 0]
    # Class 0 is right at rank 1 (1 of 1) and rank 3 (2 of 3); class 1 at rank 1 and rank 3, too.
    assert found.average_precision.classes[:2] == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 3) / 2])
    assert np.isnan(found.average_precision.classes[2])
    assert found.average_precision.macro == pytest.approx(5 / 6)
    # All twelve together: right at ranks 1, 3 or 4 (both are 0.7, one threshold), and 6 or so (0.2 twice).
    assert found.average_precision.micro == pytest.approx((1 / 1 + 2 * 3 / 4 + 4 / 7) / 4)
    assert found.f1.classes[:2] == pytest.approx([4 / 5, 1 / 2])
    assert np.isnan(found.f1.classes[2])
    assert found.f1.macro == pytest.approx(0.65)
    assert found.f1.micro == pytest.approx(6 / 9)


def test_each_class_has_its_own_threshold() -> None:
    found = label_accuracy(TRUTH, PROBABILITIES, np.array([0.85, 0.1, 0.5], np.float32))
    assert found.predicted.tolist() == [1, 3, 0]  # above, not at, the threshold


def test_one_patch_is_enough() -> None:
    found = label_accuracy(TRUTH[:1], PROBABILITIES[:1], np.full(3, 0.5, np.float32))
    assert found.average_precision.macro == 1
    assert found.f1.classes[:2].tolist() == [1, 0]
    # Like the average precision's: a class that was predicted alone is micro's.
    assert (found.f1.macro, found.precision.macro, found.recall.macro) == (1, 1, 1)
    assert found.f1.micro == pytest.approx(2 / 3)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(BenexpError, match=r"pip install 'benexp\[evaluate\]'"):
        map_accuracy(confusion({(1, 1): 1}))
