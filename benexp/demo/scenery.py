"""The synthetic landscape as Sentinel-2 sees it: surface reflectance from classes, textures and parcels.

Every pixel is a mixture of two materials, brightened or darkened. The numbers are plausible summer values after the
shape of published spectra (red edge, water absorption, bright sand), not measurements.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benexp.demo.landscape import Floats, Landscape, fractal, land_cover, rows_of, swath, truth_rows

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
BANDS_10M = ("B02", "B03", "B04", "B08")

OFFSET = 1000
"""The offset that products of processing baselines from 04.00 on add to reflectance x 10000."""
STRIP = 128
"""Rows made at once. Part of the definition: the sensor's noise is drawn strip by strip."""
SIGHT = 1
"""Pixels by which the sensor blurs."""

# Reflectance x 10000 in the order of BANDS.
SPECTRA = {
    "deep sea": (330, 270, 130, 90, 55, 50, 42, 36, 14, 8),
    "shallow sea": (700, 800, 420, 260, 120, 110, 95, 85, 40, 25),
    "fresh water": (330, 370, 230, 190, 120, 110, 100, 92, 45, 28),
    "murky water": (430, 560, 390, 340, 230, 220, 200, 190, 95, 60),
    "sand": (1900, 2350, 2700, 2900, 3050, 3150, 3250, 3350, 3900, 3400),
    "mud": (700, 850, 900, 950, 1000, 1050, 1080, 1080, 700, 450),
    "salt marsh": (480, 720, 640, 1050, 1750, 1950, 2050, 2150, 1500, 850),
    "reed": (380, 560, 520, 950, 1650, 1900, 2020, 2150, 1450, 720),
    "wet grass": (320, 620, 420, 1000, 2150, 2550, 2700, 2850, 1650, 780),
    "broad-leaved": (210, 470, 240, 780, 2550, 3200, 3400, 3550, 1650, 700),
    "broad-leaved shade": (150, 300, 170, 480, 1600, 2000, 2150, 2250, 1000, 420),
    "spruce": (170, 290, 190, 440, 1250, 1480, 1560, 1680, 780, 360),
    "spruce shade": (110, 180, 120, 270, 760, 900, 960, 1030, 470, 220),
    "green crop": (290, 640, 300, 980, 3300, 4300, 4500, 4600, 1900, 850),
    "ripe crop": (750, 1150, 1450, 1850, 2350, 2600, 2800, 3000, 3500, 2450),
    "bare soil": (880, 1150, 1450, 1700, 1900, 2080, 2250, 2400, 3150, 2600),
    "dark soil": (620, 790, 950, 1120, 1280, 1420, 1550, 1680, 2250, 1950),
    "rapeseed": (420, 1250, 1000, 1650, 3000, 3500, 3700, 3800, 2250, 1150),
    "pasture": (340, 760, 430, 1180, 3000, 3600, 3800, 3950, 2300, 1150),
    "dry grass": (620, 930, 1020, 1500, 2250, 2550, 2700, 2880, 3050, 2000),
    "rock": (1250, 1450, 1620, 1750, 1900, 2000, 2100, 2180, 2550, 2250),
    "heather": (380, 520, 600, 950, 1500, 1720, 1850, 2000, 2050, 1250),
    "moor grass": (470, 730, 760, 1250, 1950, 2250, 2380, 2550, 2500, 1500),
    "scrub": (280, 500, 380, 820, 1950, 2350, 2500, 2650, 1900, 950),
    "orchard": (260, 520, 330, 820, 2300, 2850, 3050, 3150, 1750, 800),
    "red roof": (900, 1080, 1500, 1700, 1850, 1950, 2050, 2120, 2450, 2250),
    "grey roof": (1200, 1320, 1420, 1500, 1600, 1680, 1750, 1800, 1950, 1850),
    "white roof": (2900, 3100, 3250, 3300, 3350, 3400, 3450, 3450, 3300, 2950),
    "asphalt": (780, 870, 960, 1020, 1100, 1150, 1200, 1240, 1450, 1400),
    "garden": (360, 690, 480, 1050, 2500, 3000, 3150, 3250, 1950, 1050),
}
MATERIALS = {name: number for number, name in enumerate(SPECTRA)}
_SPECTRA = np.array(list(SPECTRA.values()), np.float32)


@dataclass(frozen=True)
class Palette:
    """The random tables of one scene: periodic textures [1024, 1024] of variance 1, and a table used as dice."""

    speckle: Floats
    clumps: Floats
    patches: Floats
    dice: Floats
    angle: float
    season: Floats


def make_palette(seed: int) -> Palette:
    rng = np.random.default_rng([seed, 1_000])
    return Palette(
        speckle=fractal(rng, 1024, 4, 1.2),
        clumps=fractal(rng, 1024, 14, 2.2),
        patches=fractal(rng, 1024, 60, 2.0),
        dice=rng.random(4096, np.float32),
        angle=float(rng.uniform(0, np.pi)),
        # The season and the haze differ from scene to scene by a few percent in every band.
        season=(1 + 0.03 * rng.standard_normal(len(BANDS))).astype(np.float32),
    )


@dataclass(frozen=True)
class Places:
    """The inputs that the painters of classes get for their `n` pixels."""

    palette: Palette
    u: Floats
    """Position across the fields of the region, in pixels."""
    v: Floats
    """Position along them."""
    speckle: Floats
    clumps: Floats
    patches: Floats
    shore: Floats


@dataclass
class Paint:
    """A mixture per pixel: `share` of material `second` in material `first`, times `gain`."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    share: Floats
    gain: Floats


def _paint(places: Places, first: str, second: str, share: Floats, gain: Floats) -> Paint:
    n = len(places.u)
    return Paint(
        np.full(n, MATERIALS[first]), np.full(n, MATERIALS[second]), np.clip(share, 0, 1).astype(np.float32), gain
    )


def _dice(palette: Palette, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], salt: int) -> Floats:
    """A number in 0 to 1 for every pair of integers, always the same for the same pair."""
    return np.asarray(palette.dice[(a * 1_619 + b * 31_337 + salt * 6_971 + (a * b) % 509) & 4095])


def _cells(palette: Palette, x: Floats, period: float, salt: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The line's division into uneven pieces: the number of x's piece, and its distance from the nearer end."""
    index = np.floor(x / period).astype(np.int64)
    start = (index + 0.5 * _dice(palette, index, index, salt)) * period
    before = x < start
    index = index - before
    start = (index + 0.5 * _dice(palette, index, index, salt)) * period
    end = (index + 1 + 0.5 * _dice(palette, index + 1, index + 1, salt)) * period
    return index, np.minimum(x - start, end - x).astype(np.float32)


def _parcels(places: Places, width: float, length: float, salt: int) -> tuple[Floats, Floats, Floats]:
    """Fields of about `width` x `length` pixels: two dice per field, and the distance from its boundary."""
    palette = places.palette
    strip, to_side = _cells(palette, places.u, width, salt)
    # Every strip has its own divisions.
    shift = _dice(palette, strip, strip, salt + 1) * length * 7
    piece, to_end = _cells(palette, (places.v + shift).astype(np.float32), length, salt + 2)
    boundary = np.minimum(to_side, to_end)
    return _dice(palette, strip, piece, salt + 3), _dice(palette, piece, strip, salt + 4), boundary


def _choose(dice: Floats, shares: dict[str, float]) -> npt.NDArray[np.int64]:
    """A material per pixel, in the given shares (which sum to 1)."""
    steps = np.cumsum(list(shares.values()))[:-1]
    return np.array([MATERIALS[name] for name in shares])[np.searchsorted(steps, dice)]


def _fields(
    p: Places, size: tuple[float, float], salt: int, crops: dict[str, float], hedge: str, gain: float = 0.12
) -> Paint:
    """Farmland: a crop per parcel, boundaries of another material."""
    kind, tone, boundary = _parcels(p, *size, salt)
    return Paint(
        _choose(kind, crops),
        np.full(len(p.u), MATERIALS[hedge]),
        np.where(boundary < 0.7, np.float32(0.55), np.float32(0)),
        (1 - gain + 2 * gain * tone + 0.02 * p.speckle + 0.025 * p.clumps).astype(np.float32),
    )


def _rows(p: Places) -> Paint:
    """Orchards and vineyards: lines of trees on soil or grass."""
    kind, tone, boundary = _parcels(p, 17, 26, 40)
    lines = 0.5 + 0.5 * np.sin(2 * np.pi * (np.where(kind < 0.5, p.u, p.v) / 3.1))
    paint = _paint(p, "bare soil", "orchard", 0.2 + 0.5 * lines + 0.1 * p.speckle, 0.9 + 0.15 * tone)
    paint.first = _choose(tone, {"bare soil": 0.6, "dry grass": 0.4})
    paint.share = np.where(boundary < 0.8, np.float32(0.05), paint.share)
    return paint


def _streets(p: Places) -> Paint:
    """A town: streets around blocks of roofs and gardens, denser in its centres."""
    kind, tone, boundary = _parcels(p, 8, 11, 50)
    green = np.clip(0.34 - 0.13 * p.patches + 0.28 * p.speckle, 0, 1)
    paint = _paint(p, "red roof", "garden", green, 0.88 + 0.22 * tone + 0.09 * p.speckle)
    paint.first = _choose(kind, {"red roof": 0.55, "grey roof": 0.38, "garden": 0.07})
    street = boundary < 0.75
    paint.first[street] = MATERIALS["asphalt"]
    paint.share[street] *= 0.3
    return paint


def _halls(p: Places) -> Paint:
    """Works: large roofs on asphalt."""
    kind, tone, boundary = _parcels(p, 13, 19, 60)
    paint = _paint(
        p, "white roof", "asphalt", np.where(boundary < 2.2, 0.9, 0.05), 0.8 + 0.35 * tone + 0.04 * p.speckle
    )
    paint.first = _choose(kind, {"white roof": 0.4, "grey roof": 0.35, "asphalt": 0.15, "dry grass": 0.1})
    return paint


def _painted(label: int, p: Places) -> Paint:
    even = 1 + 0.03 * p.clumps + 0.02 * p.speckle
    rough = 1 + 0.07 * p.speckle + 0.05 * p.patches
    match label:
        case 1:
            crops = {"green crop": 0.36, "ripe crop": 0.24, "bare soil": 0.16, "dark soil": 0.1, "rapeseed": 0.14}
            return _fields(p, (27, 52), 10, crops, "scrub")
        case 2:
            return _paint(p, "sand", "dry grass", (p.shore - 14) / 14 + 0.25 * p.clumps, even)
        case 3:
            return _paint(p, "broad-leaved", "broad-leaved shade", 0.25 + 0.25 * p.speckle, 1 + 0.05 * p.patches)
        case 4:
            return _paint(p, "salt marsh", "mud", 2.2 * (0.55 - np.abs(p.clumps)) + 0.25 * p.patches, even)
        case 5:
            plots = {
                "green crop": 0.2,
                "ripe crop": 0.2,
                "bare soil": 0.15,
                "garden": 0.2,
                "pasture": 0.15,
                "orchard": 0.1,
            }
            return _fields(p, (8, 13), 20, plots, "scrub", 0.15)
        case 6:
            return _paint(p, "spruce", "spruce shade", 0.3 + 0.28 * p.speckle, 1 + 0.05 * p.patches)
        case 7:
            return _halls(p)
        case 8:
            return _paint(p, "fresh water", "murky water", 0.3 + 0.25 * p.patches, even)
        case 9:
            paint = _paint(p, "reed", "wet grass", 0.4 + 0.5 * p.patches, even)
            pools = p.clumps > 0.9
            paint.second[pools] = MATERIALS["fresh water"]
            paint.share[pools] = np.clip(2 * (p.clumps[pools] - 0.9), 0, 1)
            return paint
        case 10:
            plots = {"pasture": 0.25, "ripe crop": 0.2, "green crop": 0.2, "scrub": 0.15, "broad-leaved": 0.2}
            return _fields(p, (13, 21), 30, plots, "broad-leaved shade")
        case 11:
            return _paint(p, "deep sea", "shallow sea", np.exp(p.shore / 45) - 0.03 + 0.04 * p.patches, even)
        case 12:
            return _paint(p, "spruce", "broad-leaved", 0.5 + 0.55 * p.clumps + 0.15 * p.speckle, 1 + 0.05 * p.speckle)
        case 13:
            return _paint(p, "heather", "moor grass", 0.4 + 0.4 * p.clumps, rough)
        case 14:
            return _paint(p, "dry grass", "rock", 0.25 + 0.3 * p.clumps + 0.1 * p.speckle, rough)
        case 15:
            return _fields(p, (21, 30), 70, {"pasture": 0.8, "wet grass": 0.2}, "broad-leaved shade", 0.07)
        case 16:
            return _rows(p)
        case 17:
            return _paint(p, "moor grass", "broad-leaved", 0.4 + 0.42 * p.speckle + 0.15 * p.clumps, even)
        case 18:
            return _streets(p)
        case _:
            raise ValueError(f"no painter for class {label}")


def reflectance_rows(landscape: Landscape, palette: Palette, first: int, last: int) -> Floats:
    """Reflectance x 10000 [bands, rows, size] of the rows `first` to `last` (exclusive), without the sensor's noise."""
    fields, rows, cols = rows_of(landscape, first - SIGHT, last + SIGHT, SIGHT)
    labels = land_cover(fields)
    row = rows.astype(np.int64) % 1024
    col = cols.astype(np.int64) % 1024
    sin, cos = np.float32(np.sin(palette.angle)), np.float32(np.cos(palette.angle))
    u = cos * cols - sin * rows[:, None] + 38 * fields["warp_u"]
    v = sin * cols + cos * rows[:, None] + 38 * fields["warp_v"]
    textures = [texture[np.ix_(row, col)] for texture in (palette.speckle, palette.clumps, palette.patches)]
    light = 1 + 0.09 * fields["light"]
    light[fields["shore"] < 0] = 1

    spectra = np.empty((*labels.shape, len(BANDS)), np.float32)
    for label in np.unique(labels):
        where = labels == label
        speckle, clumps, patches = (texture[where] for texture in textures)
        places = Places(palette, u[where], v[where], speckle, clumps, patches, fields["shore"][where])
        paint = _painted(int(label), places)
        mixture = _SPECTRA[paint.first]
        mixture += paint.share[:, None] * (_SPECTRA[paint.second] - mixture)
        mixture *= (paint.gain * light[where])[:, None]
        spectra[where] = mixture
    spectra *= palette.season
    # The sensor's blur, 1 2 1 along both axes.
    spectra = (spectra[:-2] + 2 * spectra[1:-1] + spectra[2:]) / 4
    spectra = (spectra[:, :-2] + 2 * spectra[:, 1:-1] + spectra[:, 2:]) / 4
    return np.ascontiguousarray(spectra.transpose(2, 0, 1))


@dataclass(frozen=True)
class Strip:
    """Some rows of a product as it is stored: DN with the offset in them, 0 where the sensor did not look."""

    first: int
    truth: npt.NDArray[np.uint8]
    bands: dict[str, npt.NDArray[np.uint16]]
    """[rows, size] at 10 m, [rows / 2, size / 2] at 20 m."""
    scl: npt.NDArray[np.uint8]
    """The scene classification at 20 m: vegetation 4, bare 5, water 6."""


def strips(landscape: Landscape) -> Iterator[Strip]:
    """The whole scene from top to bottom, a few rows at a time. The size must be even."""
    palette = make_palette(landscape.seed)
    for first in range(0, landscape.size, STRIP):
        last = min(first + STRIP, landscape.size)
        truth = truth_rows(landscape, first, last)
        seen = swath(landscape, np.arange(first, last, dtype=np.float32), np.arange(landscape.size, dtype=np.float32))
        values = reflectance_rows(landscape, palette, first, last)
        rng = np.random.default_rng([landscape.seed, 2_000, first])
        bands = {}
        for name, band in zip(BANDS, values, strict=True):
            looked = seen
            if name not in BANDS_10M:
                band, looked = _halved(band), seen[::2, ::2]
            noise = rng.standard_normal(band.shape, np.float32) * (9 + 0.012 * band)
            stored = np.clip(np.rint(band + noise) + OFFSET, 1, 65534).astype(np.uint16)
            bands[name] = np.where(looked, stored, np.uint16(0))
        yield Strip(first, truth, bands, _scene_classes(bands, seen[::2, ::2]))


def _halved(band: Floats) -> Floats:
    """Means of 2 x 2 pixels."""
    return np.asarray((band[::2, ::2] + band[1::2, ::2] + band[::2, 1::2] + band[1::2, 1::2]) / 4)


def _scene_classes(bands: dict[str, npt.NDArray[np.uint16]], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    red, near = (_halved(bands[name].astype(np.float32) - OFFSET) for name in ("B04", "B08"))
    vegetation = near > 2.3 * red
    water = near < 450
    return np.select([~seen, water, vegetation], [np.uint8(0), np.uint8(6), np.uint8(4)], np.uint8(5)).astype(np.uint8)
