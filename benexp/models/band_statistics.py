"""Mean and standard deviation of every band, which the models' inputs are normalised with.

Source: the `120_nearest` set of BigEarthNet v2 in configilm 0.7.1 (`configilm.extra.BENv2_utils`), taken over the
official train split after upsampling to 120 x 120 by nearest. Sentinel-2 bands are in model DN (reflectance x 10000),
VV and VH in dB.
"""

from collections.abc import Iterable

from benexp.core.errors import BenexpError

MEANS: dict[str, float] = {
    "B01": 361.0767822265625,
    "B02": 438.3720703125,
    "B03": 614.0556640625,
    "B04": 588.4096069335938,
    "B05": 942.8433227539062,
    "B06": 1769.931640625,
    "B07": 2049.551513671875,
    "B08": 2193.2919921875,
    "B09": 2241.455322265625,
    "B11": 1568.226806640625,
    "B12": 997.7324829101562,
    "B8A": 2235.556640625,
    "VH": -19.352558135986328,
    "VV": -12.643863677978516,
}

STDS: dict[str, float] = {
    "B01": 575.0687255859375,
    "B02": 607.02685546875,
    "B03": 603.2968139648438,
    "B04": 684.56884765625,
    "B05": 738.4326782226562,
    "B06": 1100.4560546875,
    "B07": 1275.805419921875,
    "B08": 1369.3717041015625,
    "B09": 1316.393310546875,
    "B11": 1070.1612548828125,
    "B12": 813.5276489257812,
    "B8A": 1356.5440673828125,
    "VH": 5.590505599975586,
    "VV": 5.133493900299072,
}


def band_statistics(bands: Iterable[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The (means, stds) of `bands`, in their order; BenexpError for a band that has none."""
    bands = tuple(bands)
    for band in bands:
        if band not in MEANS:
            raise BenexpError(f"model.bands: {band!r} is no band of BigEarthNet; known are {', '.join(sorted(MEANS))}")
    return tuple(MEANS[band] for band in bands), tuple(STDS[band] for band in bands)
