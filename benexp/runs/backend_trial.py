"""Trying a backend on a few patches, in a process of its own: an engine that crashes takes nothing else down."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benexp.backends.base import Backend, FallbackError
from benexp.core.errors import BenexpError, one_line
from benexp.core.installed import has_torch
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from benexp.runs.backend_choice import choose_backend
from exporters.ranges import RangePatches

Verdict = Literal["works", "not installed", "falls back", "does not work", "crashed", "not tried"]
BATCH = 4
PATCHES = 6
"""One batch and a part of another."""
RANGE_PATCHES = 32
"""Made-up patches that int8 is calibrated on."""
LIMIT = 600
"""Seconds that one backend may take for all its trials: building an engine takes minutes."""


@dataclass(frozen=True)
class Trial:
    precision: str
    device: str


@dataclass(frozen=True)
class TrialOutcome:
    """The outcome of one trial; `what` names what runs, or gives the reason why nothing does."""

    trial: Trial
    verdict: Verdict
    what: str

    @property
    def install(self) -> str | None:
        """The command in the reason, if there is one, that installs what is missing."""
        found = re.search(r"(?:pip uninstall [^&]+ && )?pip install (?:-U )?(?:'[^']+'|[\w.\[\],=<>-]+)", self.what)
        return found[0] if found and self.verdict != "works" else None


def trials_of(backend: Mapping[str, Any]) -> list[Trial]:
    """A trial for every device and precision that the backend's class says it has."""
    found = choose_backend(backend).kind
    return [Trial(precision, device) for device in found.devices for precision in found.precisions]


def try_backend(
    backend: Mapping[str, Any],
    trials: Sequence[Trial],
    model: Mapping[str, Any],
    *,
    patch_size: int,
    seed: int,
    tolerances: Mapping[str, float],
) -> list[TrialOutcome]:
    """The outcomes of the trials, in their order; what follows a crash is tried in a new process."""
    outcomes: list[TrialOutcome] = []
    with tempfile.TemporaryDirectory(prefix="benexp-doctor-") as scratch:
        results = Path(scratch) / "results.jsonl"
        while len(outcomes) < len(trials):
            results.write_text("")
            request = {
                "backend": dict(backend),
                "trials": [asdict(trial) for trial in trials[len(outcomes) :]],
                "first_precision": trials[0].precision,
                "model": dict(model),
                "patch_size": patch_size,
                "seed": seed,
                "tolerances": dict(tolerances),
                "results": str(results),
            }
            end = _in_a_process(request)
            lines = results.read_text().splitlines()
            outcomes += [
                TrialOutcome(trial, **json.loads(line))
                for trial, line in zip(trials[len(outcomes) :], lines, strict=False)
            ]
            if len(outcomes) < len(trials):
                outcomes.append(TrialOutcome(trials[len(outcomes)], "crashed", end))
    return outcomes


def _in_a_process(request: dict[str, Any]) -> str:
    """Run `main` in a new interpreter; how it ended, in words."""
    # What can be imported here can be there; -P keeps a folder that happens to be the current one out of it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", "benexp.runs.backend_trial"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {LIMIT} s"
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].strip()
    if done.returncode < 0:
        with contextlib.suppress(ValueError):  # a signal without a name
            return f"killed by {signal.Signals(-done.returncode).name}: {last}"
    return f"ended with exit code {done.returncode}: {last}"


def main() -> None:
    """Try what the request on stdin asks for; a line of JSON in its `results` file after each trial."""
    request = json.load(sys.stdin)
    spec = resolve(request["model"], patch_size=request["patch_size"], seed=request["seed"])
    hopeless: dict[str, tuple[Verdict, str]] = {}
    with Path(request["results"]).open("a", encoding="utf-8") as results:
        for trial in request["trials"]:
            device = trial["device"]
            backend = {**request["backend"], **trial, "batch_size": spec.batch or BATCH}
            verdict, what = hopeless.get(device) or _outcome(backend, spec, request["tolerances"])
            # A library, provider or device that is missing at the first precision is missing at the others, too.
            if trial["precision"] == request["first_precision"] and verdict in ("not installed", "falls back"):
                hopeless[device] = verdict, what
            results.write(json.dumps({"verdict": verdict, "what": what}) + "\n")
            results.flush()


def _outcome(backend: Mapping[str, Any], spec: ModelSpec, tolerances: Mapping[str, float]) -> tuple[Verdict, str]:
    range_patches = RangePatches(
        key="synthetic",
        source="made-up patches",
        read=lambda: varied_patches(spec.bands, RANGE_PATCHES, spec.patch_size, seed=3),
    )
    engine_is_there = False
    choice = choose_backend(backend)
    try:
        choice.kind.ensure_available()
        engine_is_there = True
        return "works", _run(choice.make(spec, tolerances=tolerances, range_patches=range_patches))
    except FallbackError as error:
        return "falls back", str(error)
    except BenexpError as error:
        cause = error.__cause__
        if engine_is_there and spec.weights != "onnx" and choice.exported_at and not has_torch():
            return (
                "not tried",
                "the engine is installed, but making a file for it needs torch: or name model=onnx model.path=FILE",
            )
        if isinstance(cause, ModuleNotFoundError):
            return "not installed", str(error)
        # A module that is there and cannot be loaded says why, which the message may not.
        more = f" ({one_line(cause)})" if isinstance(cause, ImportError) and str(cause) not in str(error) else ""
        return "does not work", f"{error}{more}"
    # Whatever else goes wrong is what the user wants to know.
    except Exception as error:
        return "does not work", one_line(error)


def _run(made: Backend) -> str:
    """Classify a few patches; the engine and the provider that did it."""
    spec = made.spec
    patches = varied_patches(spec.bands, PATCHES, spec.patch_size, seed=4)
    chunk = np.concatenate(list(patches), axis=1).astype(np.uint16)
    origins = np.array([(index * spec.patch_size, 0) for index in range(PATCHES)])
    with made:
        made.classify(chunk, np.ones(chunk.shape[1:], bool), origins)
        said = made.describe()
    parts = [str(said[key]) for key in ("engine", "provider") if said.get(key) not in (None, "none")]
    return ", ".join(dict.fromkeys(parts)) or type(made).__name__


if __name__ == "__main__":
    main()
