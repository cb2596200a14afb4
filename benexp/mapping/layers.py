"""Layers: what is made of the class probabilities of a block, as pure functions of them.

A layer never sees nodata: `apply` puts it where the pixel is not valid, whatever the function answered there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benexp.core.classes import NODATA
from benexp.core.errors import BenexpError, one_line
from benexp.core.imports import import_name

Probabilities = npt.NDArray[np.float32]
LayerFunction = Callable[[Probabilities, Sequence[str]], npt.NDArray[Any]]
Resampling = Literal["mode", "average", "nearest"]

BUILT_IN = ("class", "maxprob", "entropy", "gap", "probs", "multilabel")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

PROBS_SCALE = 10000
"""The factor by which probabilities are multiplied to be stored as uint16; the scale of the band records it."""


@dataclass(frozen=True)
class Format:
    """The contents of an output raster.

    `resampling` is the method used for its overviews. `band_names` has one name per band; if it is empty, there is a
    single band. `scale` x stored value = value. `categories` are the names and colours (#rrggbb) of the values from 0.
    """

    name: str
    dtype: str
    nodata: float
    description: str
    resampling: Resampling
    band_names: tuple[str, ...] = ()
    scale: float = 1.0
    categories: tuple[tuple[str, str], ...] = ()

    @property
    def bands(self) -> int:
        return max(1, len(self.band_names))


@dataclass(frozen=True)
class Layer(Format):
    """An output raster made by `function(probabilities [classes, h, w], class names)`: [h, w] or [bands, h, w]."""

    function: LayerFunction = field(kw_only=True)


def class_ids(probabilities: Probabilities, class_names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The most probable class; ties go to the lowest id."""
    best = probabilities[0].copy()
    ids = np.zeros(best.shape, np.uint8)
    wins = np.empty(best.shape, np.uint8)
    # Ids only grow along the loop, so a maximum selects like a masked copy does, at a quarter of its time.
    for i, score in enumerate(probabilities[1:], start=1):
        np.greater(score, best, out=wins.view(bool))
        wins *= np.uint8(i)
        np.maximum(ids, wins, out=ids)
        np.maximum(best, score, out=best)
    return ids


def maxprob(probabilities: Probabilities, class_names: Sequence[str]) -> Probabilities:
    """The probability of the most probable class."""
    return np.asarray(probabilities.max(axis=0))


def entropy(probabilities: Probabilities, class_names: Sequence[str]) -> Probabilities:
    """Shannon's entropy in bits of the probabilities normalised to sum 1: 0 to log2(classes).

    A zero sum says nothing about the class and counts as log2(classes).
    """
    total = probabilities.sum(axis=0)
    nothing = total == 0
    total[nothing] = 1
    tiny = np.finfo(np.float32).tiny
    bits: Probabilities = np.zeros_like(total)
    share, log = np.empty_like(total), np.empty_like(total)
    for score in probabilities:
        np.divide(score, total, out=share)
        np.maximum(share, tiny, out=log)  # 0 log 0 = 0
        np.log(log, out=log)  # numpy's log2 takes twice as long
        log *= share
        bits -= log
    bits /= np.float32(np.log(2))
    bits[nothing] = np.log2(len(probabilities))
    return bits


def gap(probabilities: Probabilities, class_names: Sequence[str]) -> Probabilities:
    """The difference between the highest and the second-highest probability."""
    top: Probabilities = probabilities[0].copy()
    second: Probabilities = np.full_like(top, -np.inf)
    loser = np.empty_like(top)
    for score in probabilities[1:]:
        np.minimum(top, score, out=loser)
        np.maximum(second, loser, out=second)
        np.maximum(top, score, out=top)
    top -= second
    return top


def probs(probabilities: Probabilities, class_names: Sequence[str]) -> Probabilities:
    """All probabilities as they are."""
    return probabilities


def scaled_probs(probabilities: Probabilities, class_names: Sequence[str]) -> npt.NDArray[np.uint16]:
    """All probabilities times 10000, rounded."""
    scaled: npt.NDArray[np.uint16] = np.rint(probabilities * np.float32(PROBS_SCALE)).astype(np.uint16)
    return scaled


@dataclass(frozen=True)
class AboveThresholds:
    """Bit i is set where the probability of class i is above its threshold."""

    thresholds: tuple[float, ...]

    def __call__(self, probabilities: Probabilities, class_names: Sequence[str]) -> npt.NDArray[np.uint32]:
        bits = np.zeros(probabilities.shape[1:], np.uint32)
        for i, (score, threshold) in enumerate(zip(probabilities, self.thresholds, strict=True)):
            bits |= (score > np.float32(threshold)).astype(np.uint32) << np.uint32(i)
        return bits


def build(layers_cfg: Mapping[str, Any], class_names: Sequence[str]) -> list[Layer]:
    """The layers that the config group `layers` asks for: `names` in their order, then `extra`.

    Raises BenexpError naming the key that is wrong.
    """
    names = list(layers_cfg["names"])
    extra = layers_cfg.get("extra") or {}
    for name in names:
        if name not in BUILT_IN:
            raise BenexpError(f"layers.names: unknown layer {name!r}, it takes {', '.join(BUILT_IN)}")
    if len(set(names)) < len(names):
        raise BenexpError(f"layers.names: {', '.join(names)} names a layer twice")
    if not names and not extra:
        raise BenexpError("layers.names: no layer asked for, name at least one")
    # Checked also where no layer uses them.
    _thresholds(layers_cfg.get("thresholds", 0.5), class_names)
    _probs_layer(layers_cfg.get("probs_dtype", "float32"), tuple(class_names))
    return [_built_in(name, layers_cfg, class_names) for name in names] + [
        _extra(str(name), settings) for name, settings in extra.items()
    ]


def apply(
    layer: Layer, probabilities: Probabilities, class_names: Sequence[str], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    """The layer of one block: [bands, h, w] in the layer's dtype, nodata where `valid` [h, w] is False.

    Raises BenexpError where a user's function fails, or answers in another shape or in values the dtype cannot hold.
    """
    try:
        answer = np.asarray(layer.function(probabilities, class_names))
    except BenexpError:
        raise
    except Exception as error:
        if layer.name in BUILT_IN:
            raise
        raise BenexpError(f"layers.extra.{layer.name}: its function failed: {one_line(error)}") from error
    values = answer[None] if answer.ndim == 2 else answer
    expected = (layer.bands, *valid.shape)
    if values.shape != expected:
        raise BenexpError(
            f"layers.extra.{layer.name}: its function answered in shape {answer.shape}, not {expected}"
            " (several bands need their names in `bands`)"
        )
    if values.dtype != layer.dtype:
        _check_cast(layer, values, valid)
    result = values.astype(layer.dtype)
    result[:, ~valid] = layer.nodata
    return result


def _built_in(name: str, layers_cfg: Mapping[str, Any], class_names: Sequence[str]) -> Layer:
    nan = float("nan")
    most = f"{np.log2(len(class_names)):.2f}"
    match name:
        case "class":
            return Layer(name, "uint8", NODATA, "Most probable class", "mode", function=class_ids)
        case "maxprob":
            return Layer(name, "float32", nan, "Probability of the most probable class", "average", function=maxprob)
        case "entropy":
            text = f"Shannon entropy in bits of the class probabilities normalised to sum 1 (0 to {most})"
            return Layer(name, "float32", nan, text, "average", function=entropy)
        case "gap":
            text = "Probability of the most probable class minus that of the next"
            return Layer(name, "float32", nan, text, "average", function=gap)
        case "probs":
            return _probs_layer(layers_cfg.get("probs_dtype", "float32"), tuple(class_names))
        case _:
            if len(class_names) > 31:
                raise BenexpError(
                    f"layers.names: multilabel holds 31 classes at most, the model has {len(class_names)}"
                )
            thresholds = _thresholds(layers_cfg.get("thresholds", 0.5), class_names)
            text = "Bit i (value 2^i) is set where the probability of class i is above its threshold: " + (
                " ".join(f"{t:g}" for t in thresholds) if len(set(thresholds)) > 1 else f"{thresholds[0]:g}"
            )
            return Layer(name, "uint32", 2**32 - 1, text, "nearest", function=AboveThresholds(thresholds))


def _probs_layer(dtype: str, class_names: tuple[str, ...]) -> Layer:
    match dtype:
        case "float32":
            return Layer(
                "probs", "float32", float("nan"), "Probability of each class", "average", class_names, function=probs
            )
        case "uint16":
            text = f"Probability of each class x {PROBS_SCALE}"
            return Layer("probs", "uint16", 65535, text, "average", class_names, 1 / PROBS_SCALE, function=scaled_probs)
        case _:
            raise BenexpError(f"layers.probs_dtype={dtype}: it takes float32 or uint16")


def _thresholds(setting: Any, class_names: Sequence[str]) -> tuple[float, ...]:
    """One threshold per class from a number, a list, or a mapping from class name or id to number."""
    key = "layers.thresholds"
    if isinstance(setting, Mapping):
        values = [0.5] * len(class_names)
        for which, value in setting.items():
            if which in class_names:
                values[list(class_names).index(which)] = _probability(key, value)
            elif str(which).isdecimal() and int(which) < len(class_names):
                values[int(which)] = _probability(key, value)
            else:
                raise BenexpError(f"{key}: {which!r} is no class, give a name or an id of 0 to {len(class_names) - 1}")
        return tuple(values)
    if isinstance(setting, Sequence) and not isinstance(setting, str):
        if len(setting) != len(class_names):
            raise BenexpError(f"{key} lists {len(setting)} numbers, the model has {len(class_names)} classes")
        return tuple(_probability(key, value) for value in setting)
    return (_probability(key, setting),) * len(class_names)


def _probability(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BenexpError(f"{key}: {value!r} is not a number of 0 to 1")
    return float(value)


def _extra(name: str, settings: Any) -> Layer:
    """A user's own layer."""
    key = f"layers.extra.{name}"
    # The name becomes part of a file's name.
    if not name or not set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"):
        raise BenexpError(f"{key}: a layer's name is made of letters, digits, _ and - only")
    if name in BUILT_IN:
        raise BenexpError(f"{key}: benexp has a layer of this name, choose another")
    if not isinstance(settings, Mapping):
        raise BenexpError(f"{key}: {settings!r} is no mapping with `function`, `dtype` and so on")
    known = {"function", "_target_", "dtype", "nodata", "description", "bands"}
    if unknown := sorted(set(map(str, settings)) - known):
        raise BenexpError(f"{key}.{unknown[0]}: unknown key, it takes {', '.join(sorted(known))}")
    path = settings.get("function") or settings.get("_target_")
    if not isinstance(path, str):
        raise BenexpError(f"{key}.function: name a function as package.module.function")
    dtype = settings.get("dtype") or "float32"
    if dtype not in DTYPES:
        raise BenexpError(f"{key}.dtype={dtype}: it takes {', '.join(DTYPES)}")
    bands = settings.get("bands") or []
    if isinstance(bands, str) or not isinstance(bands, Sequence):
        raise BenexpError(f"{key}.bands={bands}: list the bands' names, or leave it out for a single band")
    function = import_name(f"{key}.function", path)
    if not callable(function):
        raise BenexpError(f"{key}.function={path}: it is a {type(function).__name__}, not a function")
    return Layer(
        name,
        dtype,
        _nodata(key, dtype, settings.get("nodata")),
        str(settings.get("description") or f"{name} by {path}"),
        "average" if dtype.startswith("float") else "nearest",
        tuple(map(str, bands)),
        function=function,
    )


def _nodata(key: str, dtype: str, value: Any) -> float:
    if value is None:
        if dtype.startswith("float"):
            return float("nan")
        raise BenexpError(f"{key}.nodata: {dtype} needs a value for pixels without data")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BenexpError(f"{key}.nodata={value}: it takes a number") from None
    if not dtype.startswith("float"):
        limits = np.iinfo(dtype)
        if not (number.is_integer() and limits.min <= number <= limits.max):
            raise BenexpError(f"{key}.nodata={value}: {dtype} holds whole numbers of {limits.min} to {limits.max}")
    return number


def _check_cast(layer: Layer, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
    """Refuse a cast to the layer's dtype that would change values other than by rounding floats."""
    if np.can_cast(values.dtype, layer.dtype, "safe"):
        return
    both = values.dtype.kind, np.dtype(layer.dtype).kind
    if both == ("f", "f"):
        return
    if both[0] in "iu" and both[1] in "iu":
        limits = np.iinfo(layer.dtype)
        inside = values[:, valid]
        if inside.size == 0 or (limits.min <= inside.min() and inside.max() <= limits.max):
            return
    if both[0] in "iu" and both[1] == "f":
        return
    raise BenexpError(
        f"layers.extra.{layer.name}: its function answered {values.dtype} values that dtype={layer.dtype} cannot hold"
    )
