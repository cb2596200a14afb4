"""A product's metadata: level, processing baseline, radiometric offsets, quantification, time of sensing.

Since processing baseline 04.00 (January 2022) products store reflectance x 10000 + 1000 and list the offset to add.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from benexp.core.errors import BenexpError
from benexp.products.container import Container

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The bands in the order of the metadata's `band_id`."""
FIRST_WITH_OFFSET = "04.00"
"""The processing baseline; as strings of two and two digits, baselines compare as they should."""
MODEL_QUANTIFICATION = 10000
"""DN per unit of reflectance in what the models were trained on."""

LARGEST_OFFSET = (1 << 16) - 1
"""DN; what shifts numbers of 16 bits by more leaves nothing of them."""

_BAND_OF_ID = {str(number): band for number, band in enumerate(BAND_IDS)}
_QUANTIFICATION = ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
_METADATA_NAME = re.compile(r"(^|_)MTD_(MSI|SAF)L(1C|2A)[^/]*\.xml$")
_BASELINE_IN_NAME = re.compile(r"_N(\d\d)(\d\d)(?=_|$)")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
# After the product's level, in front of older products' end of sensing, after a band file's tile.
_TIME_IN_NAME = re.compile(r"(?:_MSIL(?:1C|2A)_|_V|(?:^|[/_])T\d\d[A-Z]{3}_)(\d{8}T\d{6})(?=_)")
_BASELINE = re.compile(r"^([0-9][0-9])\.([0-9][0-9])$")
_BASELINE_IN_TILE_ID = re.compile(r"_N(\d\d)\.(\d\d)$")


@dataclass(frozen=True)
class Metadata:
    """One metadata document; None stands for what it does not say."""

    level: Literal["L2A", "L1C"] | None
    name: str | None
    """The product's, without `.SAFE`."""
    baseline: str | None
    """Such as `05.09`."""
    offsets: Mapping[str, int] | None
    """Per band, in the product's DN, to be added."""
    quantification: int
    """DN per unit of reflectance."""
    sensed: str | None
    """The start of sensing, in UTC, such as `2022-04-13T15:07:59.024Z`."""
    simulated: bool
    """True where it names a spacecraft that is no Sentinel-2."""
    file: str
    """The document's name in the product."""


def read_metadata(container: Container) -> Metadata | None:
    """The product's metadata document, if it has one. Raises BenexpError if it cannot be read or there are two."""
    found = [name for name in container.names if "/" not in name and _METADATA_NAME.search(name)]
    if len(found) > 1:
        raise BenexpError(f"{container.path} holds two metadata files ({', '.join(found)}): leave the one of the bands")
    return parse_metadata(container.read_document(found[0]), found[0], container.where(found[0])) if found else None


def parse_metadata(document: bytes, file: str, where: str) -> Metadata:
    """Read MTD_MSIL2A.xml or MTD_MSIL1C.xml; a tile's document (MTD_TL.xml) in its place has the baseline at most."""
    root = parse_xml(document, where)
    texts: dict[str, set[str]] = {}
    for element in root.iter():
        texts.setdefault(_local(element), set()).add((element.text or "").strip())
    level = re.match(r"Level-(2A|1C)_", _local(root))
    if not level:
        raise BenexpError(f"{where} is no Sentinel-2 metadata (its root is {_local(root)})")

    def only(*names: str) -> str:
        """The text of the elements of the first of these names that exists; empty where they do not agree."""
        said = next((texts[name] for name in names if name in texts), {""})
        return next(iter(said)) if len(said) == 1 else ""

    baseline = _digits(_BASELINE.search(only("PROCESSING_BASELINE")) or _BASELINE_IN_TILE_ID.search(only("TILE_ID")))
    listed: dict[str, int] = {}
    try:
        for element in root.iter():
            if _local(element) in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET"):
                band, offset = _BAND_OF_ID[element.attrib["band_id"]], round(float(element.text or ""))
                if listed.setdefault(band, offset) != offset or abs(offset) > LARGEST_OFFSET:
                    raise ValueError(f"{offset} for {band}")
        scale = MODEL_QUANTIFICATION
        if texts.keys() & set(_QUANTIFICATION):
            scale = round(float(only(*_QUANTIFICATION)))
        if scale <= 0:
            raise ValueError("quantification must be positive")
    except (KeyError, ValueError, OverflowError) as error:
        raise BenexpError(f"{where} has offsets or a quantification that cannot be read ({error})") from error
    started, uri = only("PRODUCT_START_TIME"), only("PRODUCT_URI", "PRODUCT_URI_2A")
    spacecraft = only("SPACECRAFT_NAME")
    return Metadata(
        level="L2A" if level[1] == "2A" else "L1C",
        name=uri.removesuffix(".SAFE") or None,
        baseline=baseline,
        offsets=listed or no_offset(baseline),
        quantification=scale,
        sensed=started if TIME.fullmatch(started) else None,
        simulated=bool(spacecraft) and not spacecraft.startswith("Sentinel-2"),
        file=file,
    )


def parse_xml(document: bytes, where: str) -> Element:
    """The root of an XML document without entities. Raises BenexpError for any other."""
    try:
        root: Element = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise BenexpError(f"{where} is not readable as XML ({type(error).__name__}: {error}): get it again") from error
    return root


def baseline_of(*names: str) -> str | None:
    """The processing baseline in the first of the names that has one: `..._N0509_...` -> `05.09`.

    N9999 stands for none: BigEarthNet and others give it to products that they made or had processed anew.
    """
    for name in names:
        baseline = _digits(_BASELINE_IN_NAME.search(name))
        if baseline and baseline != "99.99":
            return baseline
    return None


def sensed_in(*names: str) -> str | None:
    """The start of sensing, by the first of the names that has a time: `S2B_MSIL2A_20220413T150759_...`.

    >>> sensed_in("my folder", "T33XWJ_20220413T150759_B02.jp2")
    '2022-04-13T15:07:59Z'
    """
    for name in names:
        if found := _TIME_IN_NAME.search(name):
            with contextlib.suppress(ValueError):  # digits that are no date
                return datetime.strptime(found[1], "%Y%m%dT%H%M%S").strftime("%Y-%m-%dT%H:%M:%SZ")
    return None


def no_offset(baseline: str | None) -> dict[str, int] | None:
    """Offset 0 for every band where the baseline is from before offsets; otherwise it is not known."""
    return dict.fromkeys(BAND_IDS, 0) if baseline and baseline < FIRST_WITH_OFFSET else None


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _digits(match: "re.Match[str] | None") -> str | None:
    return f"{match[1]}.{match[2]}" if match else None
