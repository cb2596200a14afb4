"""The files beside a raster: names of classes for GDAL, and a style for QGIS, which a GeoTIFF has no room for."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from benexp.core.classes import named
from benexp.mapping.layers import Format

RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Viridis; bright is sure."""
_NOTHING = "#d0d0d0"

_DOCTYPE = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_QGIS = "3.22.0"
"""The oldest QGIS the styles were opened with; later ones read what earlier ones wrote."""


def sidecars(path: Path, layer: Format, class_names: Sequence[str]) -> dict[Path, bytes]:
    """The files that belong beside the raster of a layer, by final path; none for a user's layer without categories."""
    style = path.with_suffix(".qml")
    if categories := categories_of(layer, class_names):
        return {path.with_name(path.name + ".aux.xml"): _category_names(categories), style: _palette(categories)}
    match layer.name:
        case "maxprob" | "gap":
            return {style: _ramp(1, RAMP)}
        case "entropy":
            return {style: _ramp(float(np.log2(len(class_names))), RAMP[::-1])}
        case "probs":
            # QGIS applies the band's scale before it colours.
            return {style: _ramp(1, RAMP)}
        case "multilabel":
            return {style: _highest_bit([(c.name, c.colour) for c in named(class_names)])}
        case _:
            return {}


def categories_of(layer: Format, class_names: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Names and colours of the values from 0; none where values are amounts."""
    return [(c.name, c.colour) for c in named(class_names)] if layer.name == "class" else layer.categories


def _category_names(categories: Sequence[tuple[str, str]]) -> bytes:
    """GDAL's auxiliary file (PAM)."""
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name, _ in categories:
        ET.SubElement(names, "Category").text = name
    return _xml(root)


def _palette(categories: Sequence[tuple[str, str]]) -> bytes:
    """Categories with their names and colours."""
    root, renderer = _style("paletted")
    palette = ET.SubElement(renderer, "colorPalette")
    for i, (name, colour) in enumerate(categories):
        ET.SubElement(palette, "paletteEntry", value=str(i), color=colour, label=name, alpha="255")
    return _DOCTYPE + _xml(root)


def _ramp(maximum: float, colours: Sequence[str]) -> bytes:
    """0 to `maximum` through `colours`."""
    root, renderer = _style("singlebandpseudocolor", classificationMin="0", classificationMax=f"{maximum:.4g}")
    shader = _shader(renderer, "INTERPOLATED", f"{maximum:.4g}")
    ramp = ET.SubElement(shader, "colorramp", name="[source]", type="gradient")
    shares = [f"{share:g}" for share in np.linspace(0, 1, len(colours))]
    stops = ":".join(f"{share};{_rgba(colour)}" for share, colour in list(zip(shares, colours, strict=True))[1:-1])
    settings = {"color1": _rgba(colours[0]), "color2": _rgba(colours[-1]), "discrete": "0", "stops": stops}
    for key, value in settings.items():
        ET.SubElement(ramp, "prop", k=key, v=value)
    for value, colour in zip(np.linspace(0, maximum, len(colours)), colours, strict=True):
        ET.SubElement(shader, "item", value=f"{value:.4g}", color=colour, label=f"{value:.2f}", alpha="255")
    return _DOCTYPE + _xml(root)


def _highest_bit(classes: Sequence[tuple[str, str]]) -> bytes:
    """The colour of the last class whose bit is set: exact where there is one, and no combination is left out."""
    root, renderer = _style(
        "singlebandpseudocolor", classificationMin="0", classificationMax=str(2 ** len(classes) - 1)
    )
    shader = _shader(renderer, "DISCRETE", str(2 ** len(classes) - 1))
    ET.SubElement(shader, "item", value="0", color=_NOTHING, label="No class above its threshold", alpha="255")
    for i, (name, colour) in enumerate(classes):
        label = f"{name}, or with classes above" if i else name
        ET.SubElement(shader, "item", value=str(2 ** (i + 1) - 1), color=colour, label=label, alpha="255")
    return _DOCTYPE + _xml(root)


def _style(renderer_type: str, **attributes: str) -> tuple[ET.Element, ET.Element]:
    """A QGIS style as QGIS writes it, and its renderer, which is still without colours."""
    root = ET.Element("qgis", version=_QGIS, styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    settings = {"type": renderer_type, "band": "1", "alphaBand": "-1", "opacity": "1", "nodataColor": ""}
    renderer = ET.SubElement(pipe, "rasterrenderer", settings | attributes)
    ET.SubElement(renderer, "rasterTransparency")
    # The range is as given: never stretched to what happens to be in sight.
    ET.SubElement(ET.SubElement(renderer, "minMaxOrigin"), "limits").text = "None"
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(root, "blendMode").text = "0"
    return root, renderer


def _shader(renderer: ET.Element, kind: str, maximum: str) -> ET.Element:
    return ET.SubElement(
        ET.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType=kind,
        classificationMode="1",
        clip="0",
        minimumValue="0",
        maximumValue=maximum,
    )


def _rgba(colour: str) -> str:
    return ",".join(map(str, (*bytes.fromhex(colour[1:]), 255)))


def _xml(root: ET.Element) -> bytes:
    ET.indent(root)
    return ET.tostring(root) + b"\n"
