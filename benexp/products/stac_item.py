"""STAC items beside a product's bands: the facts that catalogues state about the stored numbers.

Earth Search writes `earthsearch:boa_offset_applied` and `raster:bands`, CDSE `processing:version` and `raster:offset`,
Planetary Computer `s2:processing_baseline` alone. Items contradict themselves at times, so nothing is decided here.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benexp.core.errors import BenexpError
from benexp.products.container import DOCUMENT_LIMIT, Container
from benexp.products.metadata import BAND_IDS, LARGEST_OFFSET, TIME
from benexp.products.names import parse_band_file

APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
BASELINE = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
NAMES = ("s2:product_uri", "sentinel:product_id")
PRODUCT_TYPE = ("s2:product_type", "product:type")
DEFAULT_SCALE = 0.0001

_COMMON_NAMES = {
    **{"coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06"},
    **{"rededge3": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11"},
    "swir22": "B12",
}


@dataclass(frozen=True)
class StacItem:
    """The facts in one item; None where it does not state them."""

    file: str
    """The item's name in the product."""
    names: tuple[str, ...]
    """The item's id, and the names of the product that it states."""
    baseline: str | None
    """The processing baseline, such as `05.09`."""
    applied: str | None
    """The property by which the item states that the offset has been added to the files' numbers already."""
    offsets: Mapping[str, int]
    """Per band, in DN, to be added to the numbers in the files; only of bands that state one."""
    is_l1c: bool
    sensed: str | None
    """The start of sensing, in UTC."""


def read_items(container: Container) -> tuple[tuple[StacItem, ...], tuple[str, ...]]:
    """The items among the files of the product's own folder, and warnings about JSON files that cannot be read.

    Raises BenexpError where an item has offsets that cannot be read.
    """
    items, warnings = [], []
    for name in container.names:
        if "/" in name or not name.lower().endswith((".json", ".geojson")):
            continue
        if container.size(name) > DOCUMENT_LIMIT:
            warnings.append(f"{container.where(name)} is larger than a STAC item: nothing is taken from it")
            continue
        try:
            content = json.loads(container.read_document(name))
        except (ValueError, RecursionError):
            warnings.append(f"{container.where(name)} is not readable as JSON: nothing is taken from it")
            continue
        if isinstance(content, dict) and content.get("type") == "Feature":
            items.append(parse_item(content, name, container.where(name)))
    return tuple(items), tuple(warnings)


def parse_item(content: Mapping[str, Any], file: str, where: str) -> StacItem:
    """The facts in the JSON of an item. Raises BenexpError where its offsets cannot be read."""
    properties = _mapping(content.get("properties"))

    def text(*keys: str) -> str:
        return next((value for key in keys if isinstance(value := properties.get(key), str)), "")

    offsets: dict[str, int] = {}
    for key, value in _mapping(content.get("assets")).items():
        asset = _mapping(value)
        band, offset = _band(key, asset), _offset(asset, f"{where}: asset {key!r:.100}")
        if band and offset is not None and offsets.setdefault(band, offset) != offset:
            raise BenexpError(f"{where} has the offsets {offsets[band]} and {offset} for {band}: get the item again")
    names = (content.get("id"), *(properties.get(key) for key in NAMES))
    started = re.sub(r"\+00:00$", "Z", text("start_datetime", "datetime"))
    return StacItem(
        file=file,
        names=tuple(name.removesuffix(".SAFE") for name in names if isinstance(name, str)),
        baseline=found[0] if (found := re.fullmatch(r"\d\d\.\d\d", text(*BASELINE))) else None,
        applied=next((key for key in APPLIED if properties.get(key) is True), None),
        offsets=offsets,
        is_l1c=text(*PRODUCT_TYPE) == "S2MSI1C" or str(content.get("collection")).endswith("l1c"),
        sensed=started if TIME.fullmatch(started) else None,
    )


def _band(key: str, asset: Mapping[str, Any]) -> str | None:
    """The band of an asset, by the name of its file, or by its own."""
    if parsed := parse_band_file(str(asset.get("href")).partition("?")[0]):
        return parsed.band if parsed.band in BAND_IDS else None
    name = re.sub(r"_(10|20|60)m$", "", key)
    return _COMMON_NAMES.get(name.lower(), name if name in BAND_IDS else None)


def _offset(asset: Mapping[str, Any], where: str) -> int | None:
    """The offset of an asset in DN: STAC has it in units of reflectance, in one of three places."""
    bands = asset.get("raster:bands") or asset.get("bands")
    band = _mapping(bands[0]) if isinstance(bands, list) and bands else {}
    facts = {key.removeprefix("raster:"): value for key, value in {**asset, **band}.items()}
    offset, scale = facts.get("offset"), facts.get("scale", DEFAULT_SCALE)
    if offset is None:
        return None
    try:
        number = float(offset) / float(scale)
    except (TypeError, ValueError, ArithmeticError):
        number = math.nan
    if not abs(number) <= LARGEST_OFFSET:
        raise BenexpError(f"{where} has offset {offset!r:.50} at scale {scale!r:.50}, which cannot be: get it again")
    return round(number)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
