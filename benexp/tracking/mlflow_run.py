"""What MLflow is told of a record: its parameters, metrics, tags and files."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benexp.records.benchmark import PERCENTILES, STAGES, TABLE
from benexp.tracking.sent_records import MARKER, PARITY, REPORT, Record, read

LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_KEY = 250
"""MLflow takes no more characters."""

STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

Metric = tuple[str, float, int]
"""Name, value and step: the number of the tile."""


@dataclass(frozen=True)
class Told:
    """A run as MLflow is told of it."""

    name: str
    status: str
    """MLflow's word for it."""
    seconds: float
    params: Mapping[str, str]
    metrics: Sequence[Metric]
    tags: Mapping[str, str]
    command: str
    config: Mapping[str, Any]
    files: Sequence[tuple[Path, str]] = field(default=())
    """What to copy, the most telling first, and the folder in the run's artifacts it goes to."""
    models: Sequence[Path] = field(default=())
    """The .onnx files that it made or ran."""


def tell(record: Record) -> Told:
    content = record.content
    config = content.get("config") or content.get("made_by", {}).get("config") or {}
    metrics = [metric for metric in _METRICS[record.kind](content) if metric[1] is not None]
    return Told(
        name=_name(record, config),
        status=STATUS[content.get("status", "done")],
        seconds=_seconds(content),
        params=_params(config) if record.kind != "sweep" else _common(record),
        metrics=[(key(name), float(f"{value:.6g}"), step) for name, value, step in metrics],
        tags=_tags(content, record.kind) | {"record": str(record.path.resolve())},
        command=record.command,
        config=config,
        files=list(_files(record)),
        models=_models(record),
    )


def tell_failure(failure: Mapping[str, Any]) -> Told:
    """A run of a sweep that left no record: what was asked, and the error."""
    config = failure["config"]
    return Told(
        name=f"{_words(config)}: failed",
        status=STATUS["failed"],
        seconds=failure["seconds"],
        params=_params(config),
        metrics=[],
        tags=_tags(failure, failure["task"]),
        command=failure["command"],
        config=config,
    )


def told_of_command(command: str) -> dict[str, str]:
    """Tags that show on a run's page how to run it again."""
    source = {"mlflow.source.name": "benexp", "mlflow.source.type": "LOCAL"}
    if not command:
        return source
    return source | {"command": cut(command, LONGEST_TAG), "mlflow.note.content": f"```\n{cut(command, 7000)}\n```"}


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        is_group = isinstance(inner, Mapping) and inner
        found |= flat(inner, f"{prefix}{name}.") if is_group else {f"{prefix}{name}": inner}
    return found


def key(name: str) -> str:
    """A name as MLflow takes it on every system."""
    return re.sub(r"[^\w./ -]+", "-", name, flags=re.ASCII)[:LONGEST_KEY]


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _common(sweep: Record) -> dict[str, str]:
    """The parameters that are the same in all jobs of a sweep; none where it is to go on, as MLflow takes each once."""
    found: dict[str, str] | None = None
    for job in sweep.content.get("jobs", ()):
        report = read(sweep.path.parent / str(job) / REPORT)
        if report and report.content["status"] == "interrupted":
            return {}
        if report:
            own = _params(report.content["config"])
            found = own if found is None else {name: own[name] for name in own if found.get(name) == own[name]}
    return found or {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration; where a run is told is none of its parameters."""
    asked = {name: value for name, value in config.items() if name != "tracking"}
    return {key(name): cut(_text(value), LONGEST_PARAM) for name, value in flat(asked).items()}


def _name(record: Record, config: Mapping[str, Any]) -> str:
    content = record.content
    if record.kind == "sweep":
        return record.path.parent.resolve().name
    if record.kind == "export":
        return record.path.name.removesuffix(PARITY)
    tile = content.get("tile") or content.get("name")
    backends = (one["backend_name"] for one in content.get("tiles", ()))
    words = _words(config, content.get("backend_name") or next(backends, None))
    if record.kind == "benchmark":
        return f"{words} #{content['repeat']}"
    return f"{words}: {tile}" if record.sweep else str(tile or record.path.parent.name)


def _words(config: Mapping[str, Any], name: str | None = None) -> str:
    """A configuration by what most often tells it from others."""
    backend, chunking = config["backend"], config["chunking"]
    known = [name or str(backend["_target_"]).rpartition(".")[2], backend.get("precision")]
    known += [f"chunk {chunking['chunk_size']}", f"stride {chunking['stride']}"]
    known += [f"batch {backend['batch_size']}"] if "batch_size" in backend else []
    return " ".join(filter(None, known))


def _seconds(content: Mapping[str, Any]) -> float:
    return float(content.get("seconds") or (content.get("totals") or {}).get("seconds") or 0)


def _tags(content: Mapping[str, Any], kind: str) -> dict[str, str]:
    machine = content.get("environment") or content.get("made_by") or {}
    # Of a sweep the tiles are those of many configurations.
    tiles = content.get("tiles", ()) if kind != "sweep" else ()
    model = content.get("model") or content.get("made_by", {}).get("model")
    backend: Mapping[str, Any] = content.get("backend") or next(
        (tile.get("backend") for tile in tiles if tile.get("backend")), {}
    )
    codes = sorted({verdict["code"] for tile in tiles for verdict in tile.get("verdicts", ())})
    command = content.get("command") or content.get("made_by", {}).get("command")
    errors = [f"{tile['tile']}: {tile['error']}".removeprefix(": ") for tile in tiles if tile.get("error")]
    known = {
        "task": "benchmark" if kind == "sweep" else kind,
        "status": content.get("status", "done"),
        "git_revision": machine.get("git_revision"),
        "mlflow.source.git.commit": machine.get("git_revision"),
        "machine": machine.get("machine"),
        "processor": machine.get("processor"),
        "gpus": ", ".join(gpu["name"] for gpu in machine.get("gpus", ())),
        "benexp": machine.get("benexp"),
        "model": model["name"] if model else next((tile["model"] for tile in tiles), None),
        "provider": backend.get("provider"),
        "config_hash": content.get("config_hash"),
        "map_hash": content.get("map_hash") or " ".join(tile["map_hash"] for tile in tiles if tile.get("map_hash")),
        "verdicts": " ".join(codes),
        "errors": "; ".join([*errors, *content.get("problems", ())]),
        "recommendation": content.get("recommendation", {}).get("sentence"),
        **told_of_command(command or ""),
    }
    return {name: cut(str(value), LONGEST_TAG) for name, value in known.items() if value}


def _of_run(run: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    seconds = run["seconds"]
    yield "seconds.total", seconds, 0
    for stage, took in run["stage_seconds"].items():
        yield f"seconds.{stage}", took, 0
    yield "patches", run["patches"]["classified"], 0
    if not run["grid_reused"]:
        yield "patches_per_second", run["patches"]["classified"] / seconds if seconds else None, 0
        yield "km2_per_second", run["shape"][0] * run["shape"][1] / 10_000 / seconds if seconds else None, 0
    yield "peak_rss_mb", run["peak_memory_bytes"] / 1e6, 0
    yield "output_mb", sum(file["bytes"] for file in run["files"].values()) / 1e6, 0


def _of_benchmark(report: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """The whole run's; under `tile.` those of each tile, a step per tile."""
    tiles = [tile for tile in report["tiles"] if tile["status"] == "done"]
    totals = report["totals"]
    if totals is None:  # it failed before it measured
        return
    yield "seconds.total", totals["seconds"], 0
    for stage in STAGES:
        yield f"seconds.{stage}", sum(tile["stage_seconds"].get(stage, 0.0) for tile in tiles), 0
    for name, took in report["startups"][-1]["open_seconds"].items() if report["startups"] else ():
        yield f"seconds.startup.{name}", took, 0
    yield "tiles.done", totals["done"], 0
    yield "tiles.failed", totals["failed"], 0
    yield "patches_per_second", totals["patches_per_second"], 0
    yield "km2_per_second", totals["km2_per_second"], 0
    yield "peak_rss_mb", _mega(totals["peak_rss_bytes"]), 0
    for share in PERCENTILES:
        # Percentiles of several tiles cannot be joined: of the slowest.
        yield f"latency_ms.{share}", _most(_thousand(tile["latency_seconds"][share]) for tile in tiles), 0
    usages = [tile["usage"] for tile in tiles]
    device_memory = (usage["peak"].get("device_memory_bytes") for usage in usages)
    yield "peak_device_memory_mb", _most(_mega(count) for count in device_memory), 0
    for name in ("cpu", "device"):
        yield f"joules.{name}", _sum(usage[f"{name}_joules"] for usage in usages), 0
    yield "warnings", sum(v["severity"] == "warning" for tile in tiles for v in tile["verdicts"]), 0
    if report["ceiling"]:
        yield "ceiling.km2_per_second", report["ceiling"]["totals"]["km2_per_second"], 0
    for step, tile in enumerate(report["tiles"]):
        if tile["status"] != "done":
            continue
        yield "tile.seconds", tile["seconds"], step
        for stage in STAGES:
            yield f"tile.seconds.{stage}", tile["stage_seconds"].get(stage), step
        yield "tile.patches_per_second", tile["patches"] / tile["seconds"], step
        yield "tile.km2_per_second", tile["km2"] / tile["seconds"], step
        yield "tile.peak_rss_mb", _mega(tile["usage"]["peak_rss_bytes"]), step
        for share in PERCENTILES:
            yield f"tile.latency_ms.{share}", _thousand(tile["latency_seconds"][share]), step


def _of_sweep(report: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """What the recommended configuration is worth; each configuration's figures are with its jobs."""
    advice = report["recommendation"]
    best = next((one for one in report["configurations"] if one["config_hash"] == advice["config_hash"]), None)
    yield "jobs", len(report["jobs"]), 0
    yield "configurations", len(report["configurations"]), 0
    yield "problems", len(report["problems"]), 0
    if best:
        speed = best["patches_per_second"] or {}
        yield "recommended.patches_per_second", speed.get("median"), 0
        yield "recommended.memory_mb", _mega(best["memory_bytes"]), 0
        yield "recommended.flips_per_million", best["flips_per_million"], 0


def differences(sweep: Record, job: Record) -> dict[str, float]:
    """What only the joint report knows of a job: how its map differs from the reference's."""
    own = job.content.get("config_hash")
    found: Mapping[str, Any] = next((one for one in sweep.content["configurations"] if one["config_hash"] == own), {})
    flips = found.get("flips_per_million")
    return {} if flips is None else {"flips_per_million": float(flips)}


def _of_comparison(comparison: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    yield "seconds.total", comparison["seconds"], 0
    for one in comparison["backends"]:
        for name in ("patches_per_second", "flips_per_million", "prob_diff_max", "prob_diff_mean"):
            yield f"{name}.{one['label'].replace(':', '-')}", one[name], 0


def _of_evaluation(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Whatever figures it has: they differ between labelled patches and reference rasters."""
    yield "seconds.total", evaluation["seconds"], 0
    for name, value in flat({k: v for k, v in evaluation.items() if k not in _NO_FIGURES}).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value, 0
    for one in evaluation.get("classes", ()):
        for name, value in one.items():
            if isinstance(value, float):
                yield f"class.{one['class_id']}.{name}", value, 0


_NO_FIGURES = (
    *("config", "environment", "model", "backend", "files", "classes", "confusion", "seconds", "peak_memory_bytes"),
    *("map_file", "reference_file"),
)


def _of_export(parity: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    for name in ("max_abs_diff", "mean_abs_diff", "flips_per_million", "tolerance"):
        yield name, parity.get(name), 0


_METRICS = {
    "classify": _of_run,
    "benchmark": _of_benchmark,
    "sweep": _of_sweep,
    "compare": _of_comparison,
    "evaluate": _of_evaluation,
    "export": _of_export,
}


def _files(record: Record) -> Iterator[tuple[Path, str]]:
    folder = record.path.parent
    yield record.path, ""
    if record.kind == "export":
        stem = record.path.name.removesuffix(PARITY)
        yield from ((path, "") for path in sorted(folder.glob(f"{stem}.stac.json")))
        return
    if record.kind in ("benchmark", "sweep"):
        pages = [path for path in sorted(folder.iterdir()) if path.suffix in (".html", ".png", ".svg", ".csv")]
        yield from ((path, "") for path in sorted(pages, key=lambda path: path.name != TABLE))
    own = [] if record.kind != "benchmark" else [tile for tile in record.content["tiles"] if tile["status"] == "done"]
    for tile in own:
        results = folder / tile["tile"]
        yield from ((path, f"tiles/{tile['tile']}") for path in _ordered(results, results.glob("*")))
    names = record.content.get("files", ()) if record.kind not in ("benchmark", "sweep") else ()
    yield from ((path, "") for path in _ordered(folder, (folder / name for name in names)))


def _ordered(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Pages and tables before rasters; no markers and no saved grids."""
    ranks = {".html": 0, ".png": 0, ".csv": 1, ".json": 1, ".tif": 3}
    wanted = [path for path in paths if path.is_file() and path.suffix != ".npz" and path.name != MARKER]
    return sorted(wanted, key=lambda path: (ranks.get(path.suffix, 2), path.name))


def _models(record: Record) -> list[Path]:
    if record.kind == "export":
        made = record.path.with_name(f"{record.path.name.removesuffix(PARITY)}.onnx")
        return [made] if record.content.get("format", "onnx") == "onnx" and made.is_file() else []
    content = record.content
    described = [content.get("backend") or {}, *(tile.get("backend") or {} for tile in content.get("tiles", ()))]
    described += [one["describe"] for one in content.get("backends", ()) if "describe" in one]
    ran = dict.fromkeys(about["artefact"] for about in described if about.get("artefact"))
    return [path for path in map(Path, ran) if path.suffix == ".onnx" and path.is_file()]


def _mega(count: float | None) -> float | None:
    return None if count is None else count / 1e6


def _thousand(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
