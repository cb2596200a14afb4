"""A check of this machine: `benexp task=doctor` tries every backend at every precision and prints why any fails."""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from benexp.backends.cuda import cuda_mix
from benexp.config.groups import conf_folder
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.core.installed import check_one_runtime
from benexp.measure.environment import environment
from benexp.models.resolve import resolve
from benexp.runs.backend_trial import Trial, TrialOutcome, trials_of, try_backend

LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf", "tensorrt")
FEATURES = {
    "AVX2": "avx2",
    "AVX512": "avx512f",
    "VNNI": r"avx512_vnni|avx_vnni",
    "bf16": r"avx512_bf16",
    "AMX": r"amx_(?:bf16|int8)",
}
"""The processor features that speed up reduced precisions, and the patterns of Linux's names for them."""
WIDTH = 118


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Try every backend of conf/backend, and one of the user's own; a record for each backend, precision and device.

    The model is the one that the command line names, else the demo model. Raises BenexpError where nothing works.
    """
    for line in _machine():
        say(line)
    try:
        check_one_runtime()
    except BenexpError as error:
        say(f"\nTO MEND FIRST: {error}")
    if mix := cuda_mix():
        say(f"\nTO MEND FIRST: {mix}")
    model = _model(config, overrides)
    if config.dry_run:
        return _plan(_backends(config), model["name"], say)
    spec = resolve(model, patch_size=config.chunking.patch_size, seed=config.seed)
    say(f"\ntrying every backend on {spec.name} ({spec.source}); the first time, files are exported for them ...\n")
    backends = _backends(config)
    width = max(map(len, backends))
    say(_row(width, "backend", "device", "precision", "result", ""))
    tried: dict[str, list[TrialOutcome]] = {}
    for name, backend in backends.items():
        tried[name] = _try(backend, model, config)
        for line in _rows(width, name, tried[name]):
            say(line)
    if not any(outcome.verdict == "works" for name in tried if name != "null" for outcome in tried[name]):
        raise BenexpError("no backend works on this machine: the table says why, and what to install")
    return [{"backend": name, **dataclasses.asdict(outcome)} for name, found in tried.items() for outcome in found]


def _plan(backends: Mapping[str, Mapping[str, Any]], model: str, say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Say what would be tried. Opens, fetches and exports nothing."""
    say(f"\nwould try on {model}, exporting files where a backend needs them:\n")
    width = max(map(len, backends))
    records: list[dict[str, Any]] = []
    for name, backend in backends.items():
        trials = _trials(backend)
        if isinstance(trials, TrialOutcome):
            for line in _rows(width, name, [trials]):
                say(line)
            records.append({"backend": name, **dataclasses.asdict(trials)})
            continue
        for device, alike in groupby(trials, key=lambda trial: trial.device):
            say(f"{name:<{width}}  {device:<6}  {' '.join(trial.precision for trial in alike)}")
        records += [{"backend": name, "trial": dataclasses.asdict(trial)} for trial in trials]
    return records


def _model(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    if any(re.match(r"\+*model[.=]", override) for override in overrides):
        return dataclasses.asdict(config.model)
    return _yaml(conf_folder() / "model" / "demo.yaml")


def _backends(config: Config) -> dict[str, dict[str, Any]]:
    """The backends that benexp ships, by the names of their files, and the user's, if `backend._target_` names one."""
    shipped = {path.stem: _yaml(path) for path in sorted((conf_folder() / "backend").glob("*.yaml"))}
    target = config.backend["_target_"]
    if all(backend["_target_"] != target for backend in shipped.values()):
        shipped[target.rpartition(".")[2]] = dict(config.backend)
    return shipped


def _yaml(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _trials(backend: Mapping[str, Any]) -> list[Trial] | TrialOutcome:
    """The trials of a backend, or an outcome with the reason why there are none."""
    try:
        return trials_of(backend)
    except BenexpError as error:
        return TrialOutcome(Trial(str(backend.get("precision", "")), ""), "does not work", str(error))


def _try(backend: Mapping[str, Any], model: Mapping[str, Any], config: Config) -> list[TrialOutcome]:
    trials = _trials(backend)
    if isinstance(trials, TrialOutcome):
        return [trials]
    return try_backend(
        backend,
        trials,
        model,
        patch_size=config.chunking.patch_size,
        seed=config.seed,
        # How exact int8 is, made-up patches to calibrate on do not tell: task=compare does.
        tolerances={**config.export.tolerance, "int8": 1.0},
    )


def _machine() -> Iterator[str]:
    """Facts, a line each."""
    facts = environment()
    free = psutil.virtual_memory().available / 1e9
    quota = f", by a quota of {facts['cpu_quota']:g}" if facts["cpu_quota"] else ""
    limit = f", of which {facts['memory_limit_gb']} GB may be used" if facts["memory_limit_gb"] else ""
    installed = [f"{name} {version}" for name, version in facts["libraries"].items() if name in LIBRARIES]
    missing = [name for name in LIBRARIES if name not in facts["libraries"]]
    revision = f" ({facts['git_revision']})" if facts["git_revision"] else ""
    yield f"benexp      {facts['benexp']}{revision}, Python {facts['python']}, {facts['system']}"
    yield f"processor   {facts['processor']}; {_features()}"
    yield f"cores       {facts['cores']} usable of {facts['machine_cores']}{quota}"
    yield f"memory      {facts['memory_gb']} GB{limit}, {free:.1f} GB free"
    yield f"GPU         {_gpus(facts)}"
    yield _hanging("libraries   ", ", ".join(installed) or "none")
    if missing:
        yield _hanging("            ", f"not installed: {', '.join(missing)}")
    yield f"GDAL        {_gdal()}"


def _features() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    if not flags:
        return "instruction sets unknown"
    words = flags[1].split()
    there = {name: any(re.fullmatch(pattern, word) for word in words) for name, pattern in FEATURES.items()}
    has, lacks = ([name for name in FEATURES if there[name] is which] for which in (True, False))
    return "; ".join(filter(None, (", ".join(has), f"no {', '.join(lacks)}" if lacks else "")))


def _gpus(facts: Mapping[str, Any]) -> str:
    if not facts["gpu_driver"]:
        return "no NVIDIA driver"
    return f"{', '.join(str(gpu['name']) for gpu in facts['gpus']) or 'none'}, driver {facts['gpu_driver']}"


def _gdal() -> str:
    import rasterio

    with rasterio.Env() as env:
        reads = "JP2OpenJPEG" in env.drivers()
    jp2 = "reads JPEG2000 (JP2OpenJPEG)" if reads else "has no JP2OpenJPEG: products of the archive cannot be read"
    return f"{rasterio.__gdal_version__} in rasterio {rasterio.__version__}, {jp2}"


def _rows(width: int, name: str, outcomes: Sequence[TrialOutcome]) -> Iterator[str]:
    """A line for precisions of a backend that fare alike on a device; below it why they fail and what mends it."""
    for (device, verdict, what), group in groupby(outcomes, key=lambda o: (o.trial.device, o.verdict, o.what)):
        alike = list(group)
        precisions = " ".join(outcome.trial.precision for outcome in alike)
        yield _row(width, name, device, precisions, verdict, what if verdict == "works" else "")
        if verdict != "works":
            yield _hanging("    ", what)
            if alike[0].install:
                yield f"    install: {alike[0].install}"


def _row(width: int, name: str, device: str, precisions: str, verdict: str, what: str) -> str:
    return f"{name:<{width}}  {device:<6}  {precisions:<19}  {verdict:<13}  {what}".rstrip()


def _hanging(start: str, text: str) -> str:
    """`start` and `text`, whose further lines stand below its first."""
    lines = textwrap.wrap(text, WIDTH - len(start), break_long_words=False, break_on_hyphens=False) or [""]
    return start + ("\n" + " " * len(start)).join(lines)
