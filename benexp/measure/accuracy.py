"""Accuracy of labelled patches, and of maps against a reference. scikit-learn computes the scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One figure per class, NaN where it is undefined, and its means: `macro` is that of the defined ones."""

    classes: Numbers
    macro: float
    micro: float


@dataclass(frozen=True)
class LabelAccuracy:
    """The accuracy of the labels predicted for n patches.

    The average precision of a class without a labelled patch is undefined; precision, recall and F1 are undefined where
    nothing was labelled or predicted. All macro means are over the classes with a labelled patch.
    """

    labelled: npt.NDArray[np.int64]
    """[classes]: patches with that label."""
    predicted: npt.NDArray[np.int64]
    """[classes]: patches whose probability is above the class's threshold."""
    average_precision: Scores
    precision: Scores
    recall: Scores
    f1: Scores


@dataclass(frozen=True)
class MapAccuracy:
    """The agreement of a map with a reference. Classes that neither has are undefined, and left out of the means."""

    confusion: npt.NDArray[np.int64]
    """[classes, classes]: pixels by the reference's class and the map's."""
    precision: Numbers
    recall: Numbers
    f1: Numbers
    iou: Numbers
    """[classes], like the three above, NaN where undefined."""
    macro: dict[str, float]
    """Means of the four, each over the classes that it is defined for."""
    overall: float
    """The share of pixels whose class is the reference's."""
    kappa: float
    """Cohen's; NaN where there is one class only."""

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """The ids of the classes that the reference or the map has."""
        return np.flatnonzero(self.confusion.sum(0) + self.confusion.sum(1))


def metrics() -> Any:
    """scikit-learn's metrics; raises BenexpError where it is not installed."""
    try:
        import sklearn.metrics
    except ImportError as error:
        raise BenexpError(f"task=evaluate needs {error.name}: pip install 'benexp[evaluate]'") from error
    return sklearn.metrics


def label_accuracy(
    truth: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]
) -> LabelAccuracy:
    """Compare labels [n, classes] with probabilities [n, classes]; a class counts above its threshold [classes]."""
    sk = metrics()
    predicted = probabilities > thresholds
    labelled = np.flatnonzero(truth.any(axis=0))
    average_precision = np.full(truth.shape[1], np.nan)
    for which in labelled:  # without a labelled patch scikit-learn says 0
        average_precision[which] = sk.average_precision_score(truth[:, which], probabilities[:, which])
    micro = sk.average_precision_score(truth.ravel(), probabilities.ravel()) if labelled.size else np.nan
    each = sk.precision_recall_fscore_support(truth, predicted, average=None, zero_division=np.nan)
    joint = sk.precision_recall_fscore_support(truth, predicted, average="micro", zero_division=np.nan)
    precision, recall, f1 = (
        Scores(classes, _mean(classes[labelled]), float(value))
        for classes, value in zip(each[:3], joint[:3], strict=True)
    )
    return LabelAccuracy(
        truth.sum(axis=0, dtype=np.int64),
        predicted.sum(axis=0, dtype=np.int64),
        Scores(average_precision, _mean(average_precision), float(micro)),
        precision,
        recall,
        f1,
    )


def map_accuracy(confusion: npt.NDArray[np.int64]) -> MapAccuracy:
    """The figures of a confusion matrix [reference, map] of pixels, of which there is one at least."""
    sk = metrics()
    count = len(confusion)
    present = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    # A sample per cell, weighted by its pixels: the pixels of a tile would not fit.
    reference, mapped = np.divmod(np.arange(count**2), count)
    weights = confusion.ravel()
    samples = {"y_true": reference, "y_pred": mapped, "sample_weight": weights}

    def whole(values: Any) -> Numbers:
        table = np.full(count, np.nan)
        table[present] = values
        return table

    each = sk.precision_recall_fscore_support(**samples, labels=present, average=None, zero_division=np.nan)
    precision, recall, f1 = (whole(values) for values in each[:3])
    iou = whole(sk.jaccard_score(**samples, labels=present, average=None))
    named = {"precision": precision, "recall": recall, "f1": f1, "iou": iou}
    return MapAccuracy(
        confusion,
        **named,
        macro={name: _mean(values) for name, values in named.items()},
        overall=float(sk.accuracy_score(**samples)),
        kappa=float(sk.cohen_kappa_score(reference, mapped, sample_weight=weights)) if present.size > 1 else np.nan,
    )


def _mean(values: Numbers) -> float:
    """The mean of the values that are defined; NaN if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan
