"""The data of a tile that a page holds, within limits that keep the page of a full tile under 15 MB.

| | bytes at most | beyond that |
|---|---|---|
| probability grid | GRID_BYTES | float32, then uint16, then only every n-th patch |
| pixel mask | MASK_BYTES, deflated | every n-th pixel |
| a picture | PICTURE_BYTES, as WebP | lower quality, then smaller |

The page holds them as base64, which takes 4/3 of these sizes. `notices` list for its readers what was reduced.
"""

import base64
import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benexp.core.window import Window
from benexp.mapping.grid import ProbabilityGrid
from benexp.report.drawing import rgba

GRID_BYTES = 5_100_000
"""Holds a full tile's 19 classes at stride 60 as float32, at stride 30 as uint16."""
MASK_BYTES = 1_600_000
PICTURE_BYTES = 1_600_000
_QUALITIES = (75, 55, 35)
_UINT16 = 65535


@dataclass
class Embedded:
    """A grid and a mask for a page: `facts` go there as JSON, `blobs` as deflated base64, by name."""

    facts: dict[str, Any]
    blobs: dict[str, str]
    notices: list[str]


def embed(grid: ProbabilityGrid, area: Window, window: npt.NDArray[np.float64]) -> Embedded:
    """The answers for an area, blended with `window`, as well as there is room for them.

    Origins of patches count from the area's first pixel; those of patches that reach in from outside are negative.
    """
    patches, touching = grid.patches, grid.patches.touching(area)
    all_rows, all_cols = patches.rows[touching[0]] - area.row, patches.cols[touching[1]] - area.col
    all_probabilities, all_classified = grid.probabilities[touching], grid.classified[touching]
    rows, cols, probabilities, classified = all_rows, all_cols, all_probabilities, all_classified
    notices = []
    every = 1
    while 2 * probabilities.size > GRID_BYTES and (every + 1) * patches.stride <= patches.patch_size:
        every += 1
        kept_rows, kept_cols = (_every(len(origins), every) for origins in (all_rows, all_cols))
        rows, cols = all_rows[kept_rows], all_cols[kept_cols]
        probabilities = all_probabilities[np.ix_(kept_rows, kept_cols)]
        classified = all_classified[np.ix_(kept_rows, kept_cols)]
    if every > 1:
        notices.append(
            f"This page holds every {_ordinal(every)} patch along each axis, to stay small enough for a mail: its map "
            "is smoother than the GeoTIFFs, and classes at their edges may differ. Areas are those of the GeoTIFFs."
        )
    exact = 4 * probabilities.size <= GRID_BYTES
    if not exact:
        notices.append(
            f"Probabilities in this page are rounded to 1/{_UINT16}: classes whose probabilities are closer than "
            "that may be swapped."
        )
    mask, step = _mask(grid.valid(area))
    if step > 1:
        notices.append(f"The edges of pixels without data are shown at {10 * step} m.")
    values = probabilities if exact else np.rint(probabilities * np.float32(_UINT16))
    return Embedded(
        {
            "shape": list(area.shape),
            "classes": int(probabilities.shape[2]),
            "rows": rows.tolist(),
            "cols": cols.tolist(),
            # As the blend uses them.
            "window": window.astype(np.float32).tolist(),
            "every": every,
            "exact": exact,
            "scale": 1.0 if exact else 1 / _UINT16,
            "maskStep": step,
        },
        {
            "probabilities": packed(values.astype("<f4" if exact else "<u2")),
            "classified": packed(classified.astype(np.uint8)),
            "mask": _base64(mask),
        },
        notices,
    )


def packed(array: npt.NDArray[Any]) -> str:
    """The array's bytes, deflated, as base64."""
    return _base64(zlib.compress(array.tobytes(), 1))


def picture(colours: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> str:
    """Colours [3, h, w], transparent where not `valid` [h, w], as the address of an image (`data:`)."""
    image = rgba(np.moveaxis(colours, 0, -1), valid)
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            # Method 2 takes half the time of the usual 4, for a twentieth more bytes.
            image.save(file, "WEBP", quality=quality, method=2)
            if file.tell() <= PICTURE_BYTES:
                return f"data:image/webp;base64,{_base64(file.getvalue())}"
        image = image.resize((-(-image.width * 3 // 4), -(-image.height * 3 // 4)), Image.Resampling.BOX)


def _mask(valid: npt.NDArray[np.bool_]) -> tuple[bytes, int]:
    """The mask as bits, row by row, deflated, and of every how many pixels it is."""
    step = 1
    while len(bits := zlib.compress(np.packbits(valid[::step, ::step], axis=1).tobytes(), 6)) > MASK_BYTES:
        step *= 2
    return bits, step


def _every(count: int, step: int) -> npt.NDArray[np.int64]:
    """Every step-th index, and the last, without which the tile's edge would be left bare."""
    return np.union1d(np.arange(0, count, step), count - 1)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
