"""Whether an exported model answers as the classifier it was made from."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches

Answer = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Patches [n, bands, p, p] in model DN to probabilities [n, classes]."""

COUNT = 16
"""Patches of each kind."""


def trial_patches(spec: ModelSpec) -> dict[str, npt.NDArray[np.float32]]:
    """Patches [n, bands, p, p] of each kind a tile can send, and some it should not."""
    shape = (COUNT, len(spec.bands), spec.patch_size, spec.patch_size)
    rng = np.random.default_rng(0)
    means, stds = (np.asarray(values)[:, None, None] for values in (spec.means, spec.stds))
    levels = np.linspace(-1, 4, COUNT)[:, None, None, None]
    return {
        "realistic": varied_patches(spec.bands, COUNT, spec.patch_size, seed=1),
        "random": rng.normal(means, stds, shape).astype(np.float32),
        "constant": np.broadcast_to(means + levels * stds, shape).astype(np.float32),
        "zero": np.zeros((1, *shape[1:]), np.float32),
        "saturated": np.full((1, *shape[1:]), 65535, np.float32),
    }


def compare(
    reference: Answer, candidate: Answer, patches: Mapping[str, npt.NDArray[np.float32]], tolerance: float
) -> dict[str, Any]:
    """How far `candidate` is from `reference`, kind by kind; both are asked for one patch alone, too.

    A *flip* is a patch whose best class differs although the reference's two best probabilities are more than
    `tolerance` apart: a real difference, not a tie broken the other way. The candidate passes where no probability is
    further off than `tolerance` and nothing flips; NaN fails.
    """
    kinds = {
        kind: _difference(reference(batch), _in_two_sizes(candidate, batch), tolerance)
        for kind, batch in patches.items()
    }
    return {"tolerance": tolerance, "passed": all(kind["passed"] for kind in kinds.values()), "kinds": kinds}


def _in_two_sizes(answer: Answer, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The first patch alone, then the rest together: a graph whose batch is not free shows here."""
    parts = [part for part in (batch[:1], batch[1:]) if len(part)]
    return np.concatenate([answer(part) for part in parts])


def _difference(
    reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], tolerance: float
) -> dict[str, Any]:
    difference = np.abs(reference.astype(np.float64) - candidate)
    second, best = np.sort(reference, axis=1)[:, -2:].T
    flips = (reference.argmax(1) != candidate.argmax(1)) & (best - second > tolerance)
    return {
        "patches": len(reference),
        "max_abs_diff": float(difference.max()),
        "mean_abs_diff": float(difference.mean()),
        "flips_per_million": 1e6 * float(flips.mean()),
        "passed": bool(difference.max() <= tolerance and not flips.any()),
    }
