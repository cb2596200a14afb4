"""Varied patches from a seed: enough to wake a network up, not meant to look like any place on Earth."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benexp.models.band_statistics import band_statistics


def varied_patches(bands: Sequence[str], count: int, size: int = 120, seed: int = 0) -> npt.NDArray[np.float32]:
    """`count` patches [count, bands, size, size] in model DN: whole numbers from 1 to 65535 for Sentinel-2.

    Each is a mixture of two random spectra along a random texture (from fields to stripes to speckle), so that patches
    differ in brightness, colour and structure. Means and spreads are those of BigEarthNet.
    """
    rng = np.random.default_rng(seed)
    means, stds = (np.asarray(values)[:, None, None] for values in band_statistics(bands))
    rows, cols = np.mgrid[:size, :size] / size
    patches = np.empty((count, len(bands), size, size), np.float32)
    for patch in patches:
        # Bands of one surface go up and down together, with a colour of their own on top.
        spectra = 0.9 * rng.standard_normal((2, 1)) + 0.8 * rng.standard_normal((2, len(bands)))
        angle, frequency = rng.uniform(0, np.pi), 2 ** rng.uniform(0, 5)
        wave = np.sin(2 * np.pi * frequency * (rows * np.sin(angle) + cols * np.cos(angle)) + rng.uniform(0, 6))
        cell = int(rng.integers(1, 31))
        cells = rng.random((-(-size // cell), -(-size // cell))) > rng.uniform(0.2, 0.8)
        fields = np.kron(cells, np.ones((cell, cell)))[:size, :size]
        share = np.clip(fields + rng.uniform(-1, 1) * 0.5 * wave, 0, 1)
        surface = spectra[0][:, None, None] * share + spectra[1][:, None, None] * (1 - share)
        patch[:] = means + stds * (surface + rng.uniform(0, 0.3) * rng.standard_normal(surface.shape))
    optical = [band.startswith("B") for band in bands]
    patches[:, optical] = np.clip(np.rint(patches[:, optical]), 1, 65535)
    return patches
