"""The radiometric offset of each band of a product. `radiometry.py` applies it."""

from collections.abc import Sequence

from benexp.core.errors import BenexpError
from benexp.products.product import Product


def resolve_offsets(product: Product, setting: int | str, bands: Sequence[str]) -> dict[str, int]:
    """The number to add to each band's DN. `setting` is `auto` (by the product), `none` (0) or the number itself.

    Raises BenexpError where `auto` finds no evidence.
    """
    if setting == "none":
        return dict.fromkeys(bands, 0)
    if isinstance(setting, int):
        return dict.fromkeys(bands, setting)
    if setting != "auto":
        raise BenexpError(f"offset={setting}: give auto, none or a whole number")
    known = product.offsets or {}
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise BenexpError(
            f"{product.path} does not say what radiometric offset its bands have ({', '.join(unknown)}): give offset="
            "none if its values are reflectance x 10000, offset=-1000 if they are 1000 more (baseline 04.00 and later)"
        )
    return {band: known[band] for band in bands}
