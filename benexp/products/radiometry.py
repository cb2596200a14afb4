"""Stored numbers to model DN (reflectance x 10000): `dn_table` applies the offset that `offsets.py` decides on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benexp.core.errors import BenexpError
from benexp.products.metadata import MODEL_QUANTIFICATION

NODATA = 0
SATURATED = 65535
"""The stored number of a pixel that is brighter than the sensor measures (`SPECIAL_VALUE` of the metadata)."""
SCL_CLASSES = range(12)
"""0 nodata, 1 defective, 2 dark, 3 cloud shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8 and 9 cloud,
10 cirrus, 11 snow."""

Table = npt.NDArray[np.uint16]
"""The new value of each old one. With 65536 of them, no sum wraps around and nothing is computed per pixel."""


def dn_table(offset: int, quantification: int, nodata: float | None = None, *, keep_saturated: bool = False) -> Table:
    """Model DN of each stored number: number + offset, scaled to 10000 per unit of reflectance, at least 1.

    0 stays what it is, nodata, and so becomes the number a file declares to be its nodata, and 65535, saturated, unless
    it is kept.

    >>> dn_table(-1000, 10000)[[0, 1, 999, 1001, 1002, 65534, 65535]].tolist()
    [0, 1, 1, 1, 2, 64534, 0]
    """
    numbers = np.arange(1 << 16) + float(offset)
    scaled = np.rint(numbers * (MODEL_QUANTIFICATION / quantification))
    table: Table = np.clip(scaled, 1, (1 << 16) - 1).astype(np.uint16)
    table[NODATA] = 0
    if not keep_saturated:
        table[SATURATED] = 0
    if nodata is not None and nodata in range(1 << 16):
        table[int(nodata)] = 0
    return table


def keep_table(masked: Sequence[int]) -> Table:
    """0 for the masked classes of the scene classification, 1 for the others.

    Raises BenexpError for a class that does not exist.
    """
    unknown = [value for value in masked if value not in SCL_CLASSES]
    if unknown:
        raise BenexpError(f"mask.scl={list(masked)}: {unknown[0]} is no class of the scene classification (0 to 11)")
    table = np.ones(1 << 16, np.uint16)
    table[list(masked)] = 0
    return table
