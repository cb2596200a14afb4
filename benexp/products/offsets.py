"""The radiometric offset of each band: the evidence a product holds, and the decision. `radiometry.py` applies it.

Since processing baseline 04.00 (January 2022) products store reflectance x 10000 + 1000: their offset is -1000.
Catalogues may have added it to their files already, and their items do not always state it rightly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from benexp.core.errors import BenexpError
from benexp.products.metadata import BAND_IDS, FIRST_WITH_OFFSET, baseline_of
from benexp.products.product import Product

USUAL_OFFSET = -1000
"""DN; the offset of every product of baseline 04.00 and later so far."""


@dataclass(frozen=True)
class OffsetDecision:
    """The offset of each band, in the product's DN, to be added, and the evidence that it follows."""

    offsets: Mapping[str, int]
    source: str
    """The evidence in words, such as `MTD_MSIL2A.xml: offset -1000`."""
    stated_by_metadata: bool = False
    """True where the product's own XML states these offsets."""
    filled_in: bool = False
    """True where the product states nothing, and the configuration does."""
    overridden: str | None = None
    """A warning where the configuration overrides the product's evidence."""


@dataclass(frozen=True)
class Evidence:
    """One statement about the offsets of a product."""

    source: str
    says: str
    offsets: Mapping[str, int]
    exact: bool = True
    """False for a processing baseline, by which numbers have an offset or have none."""

    def contradicts(self, other: "Evidence", bands: Sequence[str]) -> bool:
        """True if both cannot hold for one of these bands."""
        shared = [
            (self.offsets[band], other.offsets[band])
            for band in bands
            if band in self.offsets and band in other.offsets
        ]
        if self.exact and other.exact:
            return any(mine != others for mine, others in shared)
        return any(bool(mine) != bool(others) for mine, others in shared)

    def __str__(self) -> str:
        return f"{self.source}: {self.says}"


def decide_offsets(
    product: Product, setting: int | str, bands: Sequence[str], *, override: bool = False
) -> OffsetDecision:
    """The offsets of these bands, by all the evidence that the product holds and the configuration's `setting`.

    `setting` is `auto` (by the evidence), `none` (0) or a number. The latter two fill in where the product states
    nothing, and contradict its evidence only with `override`. Raises BenexpError where pieces of evidence contradict
    each other, where the setting contradicts one, and where nothing states an offset.
    """
    evidence = evidence_of(product)
    if setting == "auto":
        return _by_evidence(product, evidence, bands)
    if setting != "none" and not isinstance(setting, int):
        raise BenexpError(f"offset={setting}: give auto, none or a whole number")
    wanted = dict.fromkeys(bands, 0 if setting == "none" else int(setting))
    asked = Evidence("the configuration", f"offset={setting}", wanted)
    against = next((one for one in evidence if one.contradicts(asked, bands)), None)
    if against and not override:
        raise BenexpError(
            f"offset={setting} contradicts {product.path} ({against}): leave offset= out, or add "
            "offset_override=true if you know better"
        )
    return OffsetDecision(
        wanted,
        str(asked),
        stated_by_metadata=_metadata_states(product) and not against,
        filled_in=not evidence,
        overridden=f"offset={setting} overrides the product's own evidence ({against})" if against else None,
    )


def _by_evidence(product: Product, evidence: Sequence[Evidence], bands: Sequence[str]) -> OffsetDecision:
    for one, other in combinations(evidence, 2):
        if one.contradicts(other, bands):
            raise BenexpError(
                f"{product.path}: evidence of its offset contradicts itself ({one}; {other}): look at the pixels "
                "(water and shadows are near 1000 where the offset is still in them, near 0 where not), then set "
                "offset=-1000 or offset=none with offset_override=true"
            )
    exact = [one for one in evidence if one.exact] or evidence
    known = {band: offset for one in reversed(exact) for band, offset in one.offsets.items()}
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise BenexpError(
            f"{product.path} does not say what radiometric offset its bands have ({', '.join(unknown)}): give offset="
            "none if its values are reflectance x 10000, offset=-1000 if they are 1000 more (baseline 04.00 and later)"
        )
    return OffsetDecision({band: known[band] for band in bands}, str(exact[0]), _metadata_states(product))


def _metadata_states(product: Product) -> bool:
    return product.metadata is not None and product.metadata.offsets is not None


def evidence_of(product: Product) -> list[Evidence]:
    """Every statement about the product's offsets: its XML, its layout, STAC items, processing baselines in names."""
    metadata, items = product.metadata, product.items
    found = []
    if metadata and metadata.offsets is not None:
        found.append(Evidence(metadata.file, _says(metadata.offsets), metadata.offsets))
    if product.level == "patch":
        found.append(Evidence("BigEarthNet patch", "no offset", dict.fromkeys(BAND_IDS, 0)))
    for item in items:
        if item.applied:
            found.append(Evidence(item.file, f"{item.applied}: true", dict.fromkeys(BAND_IDS, 0)))
        if item.offsets:
            found.append(Evidence(item.file, _says(item.offsets), item.offsets))
    named = [(name, baseline_of(name)) for name in product.names]
    stated = [(item.file, item.baseline or baseline_of(*item.names)) for item in items]
    incomplete = metadata is not None and metadata.offsets is None
    if incomplete and metadata and metadata.baseline:
        # It is of a baseline whose documents list offsets: no name stands in for what is missing from it.
        return found
    # A baseline is that of the original files, to which a catalogue may have added the offset since.
    explained = incomplete or any(item.applied for item in items)
    seen: set[str] = set()
    for source, baseline in (*stated, *named):
        if baseline and baseline not in seen and not (explained and baseline >= FIRST_WITH_OFFSET):
            seen.add(baseline)
            offset = USUAL_OFFSET if baseline >= FIRST_WITH_OFFSET else 0
            says = f"processing baseline {baseline}, {'with' if offset else 'without'} an offset"
            found.append(Evidence(source, says, dict.fromkeys(BAND_IDS, offset), exact=False))
    return found


def _says(offsets: Mapping[str, int]) -> str:
    values: Iterable[int] = sorted(set(offsets.values()))
    return f"offset {' and '.join(map(str, values))}"
