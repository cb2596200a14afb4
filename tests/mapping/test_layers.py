import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from benexp.core.classes import NAMES
from benexp.core.errors import BenexpError
from benexp.mapping import layers
from benexp.mapping.layers import Layer, apply, build

THREE = ("a", "b", "c")


def column(*scores: float) -> np.ndarray:
    """Probabilities of a single pixel."""
    return np.array(scores, np.float32)[:, None, None]


def one(name: str, class_names: tuple[str, ...] = THREE, **settings: Any) -> Layer:
    return build({"names": [name], **settings}, class_names)[0]


def extra(name: str = "mine", **settings: Any) -> Layer:
    return build({"names": [], "extra": {name: settings}}, THREE)[0]


@pytest.mark.parametrize(
    ("scores", "answer"),
    [((0.1, 0.7, 0.2), 1), ((0.4, 0.1, 0.4), 0), ((0.1, 0.4, 0.4), 1), ((0, 0, 0), 0), ((0.1, 0.2, 0.3), 2)],
)
def test_class_is_the_highest_and_ties_go_to_the_lowest_id(scores: tuple[float, ...], answer: int) -> None:
    ids = layers.class_ids(column(*scores), THREE)
    assert ids.dtype == np.uint8 and ids == answer


def test_class_equals_argmax() -> None:
    # Coarse values, so that there are ties.
    probabilities = np.random.default_rng(0).integers(0, 9, (19, 40, 50)).astype(np.float32) / 8
    assert np.array_equal(layers.class_ids(probabilities, NAMES), probabilities.argmax(axis=0))


@pytest.mark.parametrize(
    ("scores", "bits"),
    [
        ((0.5, 0.5, 0.0), 1.0),
        ((0.2, 0.2, 0.0), 1.0),
        ((0.5, 0.25, 0.25), 1.5),
        ((1.0, 0.0, 0.0), 0.0),
        ((0.0, 0.0, 0.0), math.log2(3)),
        ((1e-30, 1e-30, 1e-30), math.log2(3)),
    ],
)
def test_entropy_in_bits_of_normalised_probabilities(scores: tuple[float, ...], bits: float) -> None:
    assert layers.entropy(column(*scores), THREE)[0, 0] == pytest.approx(bits, abs=1e-6)


def test_entropy_leaves_its_input_alone() -> None:
    probabilities = np.zeros((3, 2, 2), np.float32)
    layers.entropy(probabilities, THREE)
    assert not probabilities.any()


@pytest.mark.parametrize(
    ("scores", "answer"), [((0.1, 0.7, 0.2), 0.5), ((0.4, 0.1, 0.4), 0), ((0.9, 0.2, 0.1), 0.7), ((0, 0.25, 1), 0.75)]
)
def test_gap_is_top_minus_second(scores: tuple[float, ...], answer: float) -> None:
    assert layers.gap(column(*scores), THREE)[0, 0] == pytest.approx(answer)


def test_maxprob() -> None:
    assert layers.maxprob(column(0.1, 0.7, 0.2), THREE)[0, 0] == np.float32(0.7)


def test_multilabel_sets_bit_i_where_class_i_is_above_its_threshold() -> None:
    probabilities = column(0.6, 0.5, 0.9)
    valid = np.ones((1, 1), bool)

    def bits(thresholds: Any) -> int:
        return int(apply(one("multilabel", thresholds=thresholds), probabilities, THREE, valid)[0, 0, 0])

    assert bits(0.5) == 0b101
    assert bits([0.7, 0.4, 0.9]) == 0b010
    assert bits({"a": 0.7}) == 0b100
    assert bits({1: 0.4, "2": 0.95}) == 0b011


def test_probs_are_a_band_per_class_and_scaled_ones_say_so() -> None:
    probabilities = column(0.12344, 1, 0)
    valid = np.ones((1, 1), bool)
    plain, scaled = one("probs"), one("probs", probs_dtype="uint16")
    assert plain.band_names == scaled.band_names == THREE
    assert np.array_equal(apply(plain, probabilities, THREE, valid), probabilities)
    assert apply(scaled, probabilities, THREE, valid).ravel().tolist() == [1234, 10000, 0]
    assert (scaled.scale, scaled.nodata) == (0.0001, 65535)


def test_built_in_layers_in_the_order_asked_for() -> None:
    asked = ["gap", "class", "multilabel"]
    assert [layer.name for layer in build({"names": asked}, NAMES)] == asked
    assert [(x.dtype, x.nodata) for x in build({"names": ["class", "multilabel"]}, NAMES)] == [
        ("uint8", 255),
        ("uint32", 2**32 - 1),
    ]


@pytest.mark.parametrize("name", layers.BUILT_IN)
def test_nodata_where_not_valid_whatever_is_there(name: str) -> None:
    probabilities = np.full((3, 2, 2), np.nan, np.float32)
    probabilities[:, 0, 0] = 0.25
    valid = np.array([[True, False], [False, False]])
    layer = one(name)
    result = apply(layer, probabilities, THREE, valid)
    assert result.shape == (layer.bands, 2, 2) and result.dtype == layer.dtype
    hidden = result[:, ~valid]
    assert np.isnan(hidden).all() if math.isnan(layer.nodata) else (hidden == layer.nodata).all()
    assert np.isfinite(result[:, valid]).all() and (result[:, valid] != layer.nodata).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["klass"]}, "layers.names: unknown layer 'klass'"),
        ({"names": ["gap", "gap"]}, "twice"),
        ({"names": []}, "no layer"),
        ({"names": ["probs"], "probs_dtype": "int8"}, "layers.probs_dtype=int8"),
        ({"names": ["multilabel"], "thresholds": 2}, "layers.thresholds: 2"),
        ({"names": ["multilabel"], "thresholds": "high"}, "layers.thresholds: 'high'"),
        ({"names": ["multilabel"], "thresholds": [0.5]}, "lists 1 numbers, the model has 3"),
        ({"names": ["multilabel"], "thresholds": {"d": 0.5}}, "'d' is no class"),
        ({"names": ["multilabel"], "thresholds": {3: 0.5}}, "3 is no class"),
        ({"names": ["multilabel"], "thresholds": {"a": "x"}}, "'x' is not a number"),
    ],
)
def test_bad_settings_name_their_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BenexpError, match="layers") as error:
        build(settings, THREE)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def my_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own module, outside the package."""
    (tmp_path / "my_layers.py").write_text(
        """
import numpy as np

def water(probabilities, class_names):
    return probabilities[[list(class_names).index("b"), list(class_names).index("c")]].sum(axis=0)

def both(probabilities, class_names):
    return probabilities[:2]

def ids(probabilities, class_names):
    return probabilities.argmax(axis=0)

def big(probabilities, class_names):
    return np.full(probabilities.shape[1:], 300)

def fails(probabilities, class_names):
    raise ValueError("no\\nidea")

number = 3
"""
    )
    (tmp_path / "broken_layers.py").write_text("import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("my_layers", "broken_layers"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.usefixtures("my_layers")
def test_own_functions_become_layers() -> None:
    probabilities = column(0.25, 0.5, 0.125)
    valid = np.ones((1, 1), bool)
    water = extra("water", function="my_layers.water", description="any water")
    assert (water.name, water.dtype, water.description, water.bands) == ("water", "float32", "any water", 1)
    assert math.isnan(water.nodata)
    assert apply(water, probabilities, THREE, valid).ravel().tolist() == [0.625]
    both = extra("both", _target_="my_layers.both", bands=["x", "y"], dtype="float64", nodata=-1)
    assert (both.bands, both.band_names, both.nodata) == (2, ("x", "y"), -1)
    assert apply(both, probabilities, THREE, ~valid).ravel().tolist() == [-1, -1]
    # argmax answers int64, which fits.
    ids = extra("ids", function="my_layers.ids", dtype="uint8", nodata=255)
    assert apply(ids, probabilities, THREE, valid).ravel().tolist() == [1]


@pytest.mark.usefixtures("my_layers")
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mine", {"function": "my_layers.nothing"}, "layers.extra.mine.function=my_layers.nothing: cannot be imported"),
        ("mine", {"function": "broken_layers.f"}, "No module named 'no_such_thing'"),
        ("mine", {"function": "f"}, "layers.extra.mine.function=f"),
        ("mine", {"function": "my_layers.number"}, "it is a int, not a function"),
        ("mine", {}, "layers.extra.mine.function"),
        ("mine", {"function": "my_layers.water", "dtype": "complex64"}, "layers.extra.mine.dtype=complex64"),
        ("mine", {"function": "my_layers.water", "dtype": "uint8"}, "layers.extra.mine.nodata: uint8 needs"),
        ("mine", {"function": "my_layers.water", "dtype": "uint8", "nodata": 256}, "layers.extra.mine.nodata=256"),
        ("mine", {"function": "my_layers.water", "nodata": "x"}, "layers.extra.mine.nodata=x"),
        ("mine", {"function": "my_layers.water", "bands": "x"}, "layers.extra.mine.bands=x"),
        ("mine", {"function": "my_layers.water", "colour": 1}, "layers.extra.mine.colour: unknown key"),
        ("mine", "my_layers.water", "is no mapping"),
        ("class", {"function": "my_layers.water"}, "layers.extra.class: benexp has"),
        ("../x", {"function": "my_layers.water"}, "layers.extra.../x: a layer's name"),
        ("zürich", {"function": "my_layers.water"}, "layers.extra.zürich: a layer's name"),
    ],
)
def test_bad_own_layers_name_their_key(name: str, settings: Any, message: str) -> None:
    with pytest.raises(BenexpError) as error:
        build({"names": [], "extra": {name: settings}}, THREE)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("my_layers")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": "my_layers.both"}, "answered in shape (2, 1, 1), not (1, 1, 1)"),
        ({"function": "my_layers.water", "bands": ["x", "y"]}, "answered in shape (1, 1), not (2, 1, 1)"),
        ({"function": "my_layers.water", "dtype": "uint8", "nodata": 255}, "float32 values that dtype=uint8"),
        ({"function": "my_layers.big", "dtype": "uint8", "nodata": 255}, "int64 values that dtype=uint8"),
        ({"function": "my_layers.fails"}, "its function failed: ValueError: no idea"),
    ],
)
def test_bad_answers_of_own_layers_name_them(settings: dict[str, Any], message: str) -> None:
    layer = extra("mine", **settings)
    with pytest.raises(BenexpError) as error:
        apply(layer, column(0.25, 0.5, 0.125), THREE, np.ones((1, 1), bool))
    assert str(error.value).startswith("layers.extra.mine: ")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("config", ["standard", "full"])
def test_shipped_configs_build(config: str) -> None:
    folder = Path(__file__).parents[2] / "conf" / "layers"
    settings = OmegaConf.merge(OmegaConf.load(folder / "standard.yaml"), OmegaConf.load(folder / f"{config}.yaml"))
    built = build(settings, NAMES)
    assert [layer.name for layer in built] == list(layers.BUILT_IN[: 4 if config == "standard" else 6])
