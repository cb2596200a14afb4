"""A made-up coast country: which land cover lies where, as pure functions of size and seed.

A handful of smooth random fields (height, moisture, closeness to towns, ...) is drawn on a coarse grid, so that a whole
tile's landscape weighs a few megabytes; any rows of the 10 m truth map are then made from them on demand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benexp.core.classes import NODATA

Floats = npt.NDArray[np.float32]

STEP = 8
"""Pixels between the nodes of the coarse grid."""
MARGIN = 2
"""Nodes of the coarse grid beyond each edge of the tile: neighbours of the outermost pixels exist too."""

# name: (longest wavelength in pixels, fall of the amplitude with the frequency: larger is smoother)
FIELDS = {
    "height": (800, 3.2),
    "moisture": (640, 3.1),
    "forest": (560, 3.1),
    "culture": (640, 3.1),
    "town": (520, 2.9),
    "works": (600, 3.1),
    "lake": (640, 3.1),
    "river": (900, 2.6),
    "coast": (640, 2.6),
    "warp_u": (700, 4.0),
    "warp_v": (700, 4.0),
}
FRAY = 0.035
"""Amplitude of the noise that frays the boundaries: regions stay as large as a patch resolves, but not as smooth."""
RANKED = ("height", "moisture", "forest", "culture", "town", "works", "lake")


@dataclass(frozen=True)
class Landscape:
    """The coarse fields of one landscape [nodes, nodes].

    Those in `RANKED` are uniform in 0 to 1, so that shares of area follow from thresholds; `shore` and `bank` are
    distances in pixels (negative in the water).
    """

    size: int
    seed: int
    fields: dict[str, Floats]


def fractal(rng: np.random.Generator, nodes: int, wavelength: float, slope: float) -> Floats:
    """Periodic noise [nodes, nodes] of mean 0 and variance 1 whose spectrum falls beyond `wavelength` (in nodes)."""
    along_y = np.fft.fftfreq(nodes)[:, None]
    along_x = np.fft.rfftfreq(nodes)[None, :]
    envelope = (along_y**2 + along_x**2 + wavelength**-2) ** (-slope / 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((nodes, nodes))) * envelope, (nodes, nodes))
    field -= field.mean()
    return np.asarray(field / field.std(), np.float32)


def ranked(field: Floats) -> Floats:
    """The field's ranks scaled to 0 to 1: the same pattern with a uniform distribution."""
    ranks = np.empty(field.size, np.float32)
    ranks[np.argsort(field, axis=None, kind="stable")] = np.linspace(0, 1, field.size, dtype=np.float32)
    return ranks.reshape(field.shape)


def make_landscape(size: int, seed: int) -> Landscape:
    """The landscape of a tile of `size` x `size` pixels of 10 m."""
    nodes = -(-size // STEP) + 2 * MARGIN + 1
    fields: dict[str, Floats] = {}
    for number, (name, (wavelength, slope)) in enumerate(FIELDS.items()):
        rng = np.random.default_rng([seed, number])
        # Cut out of a larger field, so that opposite edges of the tile do not resemble each other.
        field = fractal(rng, nodes + wavelength // STEP, wavelength / STEP, slope)[:nodes, :nodes]
        field = field + FRAY * fractal(rng, nodes, 90 / STEP, 1.8)
        fields[name] = ranked(field) if name in RANKED else np.ascontiguousarray(field)
    fields["shore"] = _shore(fields["coast"], size, seed)
    # Dividing by the gradient makes the level line of a random field a band of even width: a river.
    river = fields["river"]
    slope_y, slope_x = np.gradient(river, STEP)
    width = np.float32(5) + 4 * fields["moisture"]
    fields["bank"] = np.abs(river) / (np.hypot(slope_y, slope_x) + 1e-3) - width
    slope_y, slope_x = np.gradient(_smooth(fields["height"]), STEP)
    fields["light"] = np.clip(40 * (slope_x + slope_y) * 0.7, -1, 1)
    return Landscape(size, seed, {name: field.astype(np.float32) for name, field in fields.items()})


def _shore(coast: Floats, size: int, seed: int) -> Floats:
    """Distance from the sea in pixels; the sea lies along one edge, never the one that the swath's edge cuts."""
    axis = (np.arange(len(coast), dtype=np.float32) - MARGIN) * STEP
    side = ("top", "bottom", "far")[seed % 3]
    if side == "top":
        distance = axis[:, None]
    elif side == "bottom":
        distance = size - axis[:, None]
    else:
        distance = axis[None, :] if _wedge_is_right(seed) else size - axis[None, :]
    depth = min(0.14 * size, 700)
    return distance - depth - 0.45 * depth * coast


def _smooth(field: Floats) -> Floats:
    for axis in (0, 1):
        field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    return field


def _wedge_is_right(seed: int) -> bool:
    return seed % 2 == 1


def rows_of(landscape: Landscape, first: int, last: int, margin: int = 0) -> tuple[dict[str, Floats], Floats, Floats]:
    """The fields at the pixels of the rows `first` to `last` (exclusive), with `margin` more columns on both sides.

    Returns them by name as [rows, columns], with the rows' and the columns' numbers.
    """
    rows = np.arange(first, last, dtype=np.float32)
    cols = np.arange(-margin, landscape.size + margin, dtype=np.float32)
    return {name: _sample(field, rows, cols) for name, field in landscape.fields.items()}, rows, cols


def _sample(field: Floats, rows: Floats, cols: Floats) -> Floats:
    """Bilinear interpolation of a coarse field."""
    row, down = _nodes(rows)
    col, right = _nodes(cols)
    across = field[row] + down[:, None] * (field[row + 1] - field[row])
    left: Floats = across[:, col]
    left += right * (across[:, col + 1] - left)
    return left


def _nodes(pixels: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    at = pixels / np.float32(STEP) + np.float32(MARGIN)
    node = np.floor(at).astype(np.int64)
    return node, (at - node).astype(np.float32)


def land_cover(fields: dict[str, Floats]) -> npt.NDArray[np.uint8]:
    """The class of every pixel from the fields there: the first rule that holds decides."""
    height, moisture, forest, culture = (fields[name] for name in ("height", "moisture", "forest", "culture"))
    town, works, lake, shore, bank = (fields[name] for name in ("town", "works", "lake", "shore", "bank"))
    # The lowland ends where the country rises; forests change from broad-leaved to coniferous with the height.
    cool = 0.65 * height + 0.35 * culture
    rules = [
        (shore < 0, 11),
        ((shore < 30) & (moisture < 0.62), 2),
        ((shore < 110) & (moisture > 0.62) & (height < 0.8), 4),
        ((lake > 0.93) & (shore > 60), 8),
        ((bank < 0) & (height < 0.86), 8),
        ((lake + 0.14 * moisture > 0.97) & (shore > 60), 9),
        ((town > 0.9) & (height < 0.85), 18),
        ((town > 0.8) & (works > 0.66) & (height < 0.8), 7),
        ((height > 0.82) & (moisture > 0.45), 13),
        (height > 0.82, 14),
        ((forest > 0.62) & (cool > 0.56), 6),
        ((forest > 0.62) & (cool > 0.43), 12),
        (forest > 0.62, 3),
        ((height > 0.66) & (forest > 0.36), 17),
        ((town > 0.7) & (culture > 0.45), 5),
        ((moisture > 0.64) & (culture < 0.75), 15),
        ((moisture < 0.3) & (culture > 0.55), 16),
        (culture < 0.12, 10),
    ]
    return np.select([where for where, _ in rules], [np.uint8(label) for _, label in rules], np.uint8(1)).astype(
        np.uint8
    )


def swath(landscape: Landscape, rows: Floats, cols: Floats) -> npt.NDArray[np.bool_]:
    """True where the sensor looked: a slanting wedge at the left or right edge is nodata.

    It steps by 20 m, so that the bands of both resolutions end at the same place.
    """
    size = landscape.size
    down = 2 * np.floor(rows / 2)[:, None] / size
    from_edge = 2 * np.floor(cols / 2)
    if _wedge_is_right(landscape.seed):
        from_edge = size - 2 - from_edge
    if landscape.seed % 4 < 2:
        down = 1 - down
    return np.asarray(from_edge[None, :] >= size * (0.02 + 0.13 * down))


def truth_rows(landscape: Landscape, first: int, last: int) -> npt.NDArray[np.uint8]:
    """The true classes of the rows `first` to `last` (exclusive), 255 where the sensor did not look."""
    fields, rows, cols = rows_of(landscape, first, last)
    return np.where(swath(landscape, rows, cols), land_cover(fields), np.uint8(NODATA))
