"""The comparison of an artefact with the classifier it was made from, without which it is not kept."""

import json
import tempfile
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benexp.core.cache import SCRATCH, remove_scratch
from benexp.core.disk_limits import limits_named
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import embed_hash
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches

Patches = npt.NDArray[np.float32]
Answer = Callable[[Patches], npt.NDArray[np.float32]]
"""Patches [n, bands, p, p] in model DN to probabilities [n, classes]."""

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 0.1, "int8": 0.2}
"""The largest difference of a probability from torch's fp32, by precision, unless the caller says otherwise."""
MEAN_SHARE = 0.2
"""The mean difference may be this share of a tolerance under 1: what is off everywhere is not rounded, but wrong."""
INT8_DECIDES = ("real", "realistic", "random", "constant")
"""The kinds of patches whose tolerance int8 has to keep.

Not zero and saturated: eight bits cover the range that was measured and no more. Made to cover a saturated patch,
which lies a hundred standard deviations off, they fail everything else.
"""
ENGINE_DECIDES = (*INT8_DECIDES, "zero")
"""The kinds of patches whose tolerance an engine of 16 bits has to keep: not saturated, where 16 bits are coarse."""
COUNT = 16
"""Patches of each kind."""


def trial_patches(spec: ModelSpec, real: Patches | None = None) -> dict[str, Patches]:
    """Patches [n, bands, p, p] of each kind a tile can send, and some it should not; `real` are a user's own."""
    shape = (COUNT, len(spec.bands), spec.patch_size, spec.patch_size)
    rng = np.random.default_rng(0)
    means, stds = (np.asarray(values)[:, None, None] for values in (spec.means, spec.stds))
    levels = np.linspace(-1, 4, COUNT)[:, None, None, None]
    kinds = {
        "realistic": varied_patches(spec.bands, COUNT, spec.patch_size, seed=1),
        "random": rng.normal(means, stds, shape).astype(np.float32),
        "constant": np.broadcast_to(means + levels * stds, shape).astype(np.float32),
        "zero": np.zeros((1, *shape[1:]), np.float32),
        "saturated": np.full((1, *shape[1:]), 65535, np.float32),
    }
    return kinds if real is None else {"real": real, **kinds}


def compare(
    reference: Answer,
    candidate: Answer,
    patches: Mapping[str, Patches],
    tolerance: float,
    decides: Container[str] | None = None,
) -> dict[str, Any]:
    """The difference of `candidate` from `reference`, by kind and in all that decide: those in `decides`, or every one.

    A *flip* is a patch whose best class differs, beyond a tie where the reference's two best are further apart than
    `tolerance`. The candidate passes where no probability is further off than `tolerance`, their mean by no more than
    MEAN_SHARE of it, and no flip is beyond a tie; NaN fails, whatever the kind. `max_abs_diff_all` is over the kinds
    that do not decide, too.
    """
    kinds = {kind: _difference(reference(batch), candidate(batch), tolerance) for kind, batch in patches.items()}
    for kind, difference in kinds.items():
        difference["decides"] = decides is None or kind in decides or bool(np.isnan(difference["max_abs_diff"]))
    voters = [difference for difference in kinds.values() if difference["decides"]]

    def mean(key: str) -> float:
        return float(np.average([kind[key] for kind in voters], weights=[kind["patches"] for kind in voters]))

    return {
        "patches": sum(kind["patches"] for kind in voters),
        # np.max, unlike max, hands a NaN on.
        "max_abs_diff": float(np.max([kind["max_abs_diff"] for kind in voters])),
        "max_abs_diff_all": float(np.max([kind["max_abs_diff"] for kind in kinds.values()])),
        "mean_abs_diff": mean("mean_abs_diff"),
        "flips_per_million": mean("flips_per_million"),
        "beyond_ties_per_million": mean("beyond_ties_per_million"),
        "tolerance": tolerance,
        "passed": all(kind["passed"] for kind in voters) and mean("mean_abs_diff") <= _mean_allowed(tolerance),
        "kinds": kinds,
    }


def export_checked(
    path: Path,
    build: Callable[[Path], None],
    load: Callable[[Path], Answer],
    *,
    what: str,
    reference: Answer,
    patches: Mapping[str, Patches],
    tolerance: float,
    about: Mapping[str, Any],
    hint: str,
    decides: Container[str] | None = None,
) -> dict[str, Any]:
    """Build an artefact beside `path`, compare it with `reference`, and only then give it its name.

    `build` writes the file it is given and may write others of the same stem, then the hash is embedded; `load` makes
    the file answer. The report with `about`, in which `reference` stands in words, is returned and written to
    `<stem>.parity.json`.

    Raises BenexpError, and leaves no artefact, where the answers do not pass `compare` on the kinds of patches that
    `decides` names (None: on all): the patch that differs most, with both answers, is then in
    `<stem>.worst.npz`. `what` and `hint` word the error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_scratch(path.parent)
    worst = path.with_suffix(".worst.npz")
    # A folder of its own, so that two processes exporting at once write to different files.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as scratch:
        made = Path(scratch) / path.name
        with limits_named(made, path):
            build(made)
            embed_hash(made)
        answer = load(made)
        report = {**about, **compare(reference, answer, patches, tolerance, decides)}
        if not report["passed"]:
            kind, patch, why = _worst(reference, answer, patches, report)
            _keep(worst, reference, answer, kind, patches[kind][patch : patch + 1])
            raise BenexpError(
                f"{what} differs from {report['reference']}: {why}; it was not kept; "
                f"the patch that differs most is in {worst}; {hint}"
            )
        made.with_suffix(".parity.json").write_text(json.dumps(report, indent=2) + "\n")
        # The artefact last: where it is, all that belongs to it is.
        for file in sorted(Path(scratch).iterdir(), key=lambda file: file == made):
            file.replace(path.parent / file.name)
    worst.unlink(missing_ok=True)
    return report


def _mean_allowed(tolerance: float) -> float:
    """No probability is further off than 1: who says 1 allows everything."""
    return MEAN_SHARE * tolerance if tolerance < 1 else 1.0


def _worst(
    reference: Answer, candidate: Answer, patches: Mapping[str, Patches], report: Mapping[str, Any]
) -> tuple[str, int, str]:
    """Kind and number of the patch that shows a failure best, and the failure in words."""
    deciding = {kind: batch for kind, batch in patches.items() if report["kinds"][kind]["decides"]}
    answers = {kind: (reference(batch), candidate(batch)) for kind, batch in deciding.items()}
    differences = {kind: np.abs(right - answered).max(1) for kind, (right, answered) in answers.items()}
    # np.argmax and np.max, unlike max, find a NaN.
    kind = list(differences)[int(np.argmax([np.max(found) for found in differences.values()]))]
    worst, allowed = float(np.max(differences[kind])), report["tolerance"]
    for other, (right, answered) in answers.items():
        if worst <= allowed and (beyond := _beyond_ties(right, answered, allowed)).any():
            return other, int(beyond.argmax()), f"a patch of the {other} ones gets another class, beyond a tie"
    why = (
        f"by {worst:.1e} on {kind} patches (allowed: {allowed:.0e}), "
        f"by {report['mean_abs_diff']:.1e} on average (allowed: {_mean_allowed(allowed):.0e})"
    )
    return kind, int(np.argmax(differences[kind])), why


def _keep(path: Path, reference: Answer, candidate: Answer, kind: str, patch: Patches) -> None:
    np.savez(path, kind=kind, patch=patch[0], reference=reference(patch)[0], candidate=candidate(patch)[0])


def _beyond_ties(
    reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], tolerance: float
) -> npt.NDArray[np.bool_]:
    """Which patches [n] have another best class, though the reference's leads by more than `tolerance`."""
    ordered = np.sort(reference, axis=1)
    leads = ordered[:, -1] - ordered[:, -2:-1].max(1, initial=0)
    return np.asarray((reference.argmax(1) != candidate.argmax(1)) & (leads > tolerance))


def in_two_sizes(answer: Answer) -> Answer:
    """The first patch alone, then the rest together: a graph whose batch is not free shows here."""

    def both(batch: Patches) -> npt.NDArray[np.float32]:
        return np.concatenate([answer(part) for part in (batch[:1], batch[1:]) if len(part)])

    return both


def in_batches(answer: Answer, size: int) -> Answer:
    """`size` patches at once, the last batch filled up: for a graph of a fixed batch."""

    def batched(batch: Patches) -> npt.NDArray[np.float32]:
        full = np.concatenate([batch, np.repeat(batch[-1:], -len(batch) % size, 0)])
        return np.concatenate([answer(full[i : i + size]) for i in range(0, len(full), size)])[: len(batch)]

    return batched


def _difference(
    reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], tolerance: float
) -> dict[str, Any]:
    difference = np.abs(reference.astype(np.float64) - candidate)
    flips = reference.argmax(1) != candidate.argmax(1)
    beyond = _beyond_ties(reference, candidate, tolerance)
    return {
        "patches": len(reference),
        "max_abs_diff": float(difference.max()),
        "mean_abs_diff": float(difference.mean()),
        "flips_per_million": 1e6 * float(flips.mean()),
        "beyond_ties_per_million": 1e6 * float(beyond.mean()),
        "tolerance": tolerance,
        "passed": bool(difference.max() <= tolerance and not beyond.any()),
    }
