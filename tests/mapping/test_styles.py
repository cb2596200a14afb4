"""Styles and names beside the rasters."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benexp.core.classes import CLASSES, NAMES
from benexp.mapping.layers import build
from benexp.mapping.styles import sidecars


def style(name: str, **settings: Any) -> ET.Element:
    (layer,) = build({"names": [name], **settings}, NAMES)
    written = sidecars(Path("x") / f"x_{name}.tif", layer, NAMES)
    return ET.fromstring(written[Path("x") / f"x_{name}.qml"])


@pytest.mark.parametrize(
    ("name", "maximum", "low", "high"),
    [
        ("maxprob", "1", "#440154", "#fde725"),
        ("gap", "1", "#440154", "#fde725"),
        ("entropy", "4.248", "#fde725", "#440154"),
        ("probs", "1", "#440154", "#fde725"),
    ],
)
def test_amounts_have_a_ramp_over_their_whole_range(name: str, maximum: str, low: str, high: str) -> None:
    root = style(name)
    renderer = root.find("pipe/rasterrenderer")
    assert root.tag == "qgis" and renderer is not None
    assert renderer.get("type") == "singlebandpseudocolor" and renderer.get("band") == "1"
    assert (renderer.get("classificationMin"), renderer.get("classificationMax")) == ("0", maximum)
    assert renderer.findtext("minMaxOrigin/limits") == "None"  # never stretched to what is in sight
    items = renderer.findall("rastershader/colorrampshader/item")
    assert [(i.get("value"), i.get("color")) for i in (items[0], items[-1])] == [("0", low), (maximum, high)]
    stops = {prop.get("k"): prop.get("v") for prop in renderer.iterfind(".//colorramp/prop")}
    assert stops["color1"] == ",".join(str(int(low[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"


def test_probabilities_as_integers_have_the_same_style() -> None:
    assert ET.tostring(style("probs", probs_dtype="uint16")) == ET.tostring(style("probs"))


@pytest.mark.parametrize(("value", "colour"), [(0, "#d0d0d0"), (1, "#f2cca6"), (1 << 18, "#ff0000"), (5, "#e6e6e6")])
def test_bits_have_the_colour_of_the_last_class(value: int, colour: str) -> None:
    items = style("multilabel").findall(".//colorrampshader[@colorRampType='DISCRETE']/item")
    assert len(items) == 1 + len(CLASSES)
    # QGIS takes the first item that is not below the value.
    assert next(i.get("color") for i in items if int(i.get("value", "")) >= value) == colour


def test_a_users_layer_has_none() -> None:
    extra = {"mine": {"function": "benexp.mapping.layers.maxprob"}}
    (layer,) = build({"names": [], "extra": extra}, NAMES)
    assert sidecars(Path("x_mine.tif"), layer, NAMES) == {}
