"""A record as a run of MLflow: its parameters, metrics, tags and files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benexp.benchmarking.labels import flat
from benexp.records.comparison import ComparisonRecord
from benexp.records.environment import Environment
from benexp.records.evaluation import MapEvaluation
from benexp.records.job import JobReport
from benexp.records.names import PARITY, REPORT, TABLE
from benexp.records.run import RunRecord, WorkRecord
from benexp.records.sweep import SweepReport
from benexp.records.tile import done_tiles
from benexp.tracking.mlflow_metrics import Metric, key, metrics_of
from benexp.tracking.sent_records import MARKER, SWEEP, FoundRecord, TaskRecord, read

LONGEST_PARAM = 6000
LONGEST_TAG = 8000
"""MLflow takes no more characters."""

STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's word for a record's status."""


@dataclass(frozen=True)
class MlflowRun:
    """A run with everything that is sent of it."""

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
    """Files to copy, the most useful first, and the folder in the run's artifacts that each goes to."""
    models: Sequence[Path] = field(default=())
    """The .onnx files that it made or ran."""


@dataclass(frozen=True, kw_only=True)
class JobFailure:
    """A job of a sweep that failed and left no record."""

    task: str
    command: str
    config: dict[str, Any]
    config_hash: str
    environment: Environment
    error: str
    seconds: float


def mlflow_run_of(record: FoundRecord) -> MlflowRun:
    config = _config(record)
    return MlflowRun(
        name=_name(record, config),
        status=STATUS[record.status],
        seconds=record.seconds,
        params=_common(record) if isinstance(record.content, SweepReport) else _params(config),
        metrics=metrics_of(record),
        tags=_tags(record) | {"record": str(record.path.resolve())},
        command=record.command,
        config=config,
        files=list(_files(record)),
        models=_models(record),
    )


def mlflow_run_of_failure(failure: JobFailure) -> MlflowRun:
    known = {"config_hash": failure.config_hash, "errors": failure.error}
    return MlflowRun(
        name=f"{_words(failure.config)}: failed",
        status=STATUS["failed"],
        seconds=failure.seconds,
        params=_params(failure.config),
        metrics=[],
        tags=_cut_tags(failure.task, "failed", failure.environment, known, failure.command),
        command=failure.command,
        config=failure.config,
    )


def tags_of_command(command: str) -> dict[str, str]:
    """Tags that show on a run's page how to run it again."""
    source = {"mlflow.source.name": "benexp", "mlflow.source.type": "LOCAL"}
    if not command:
        return source
    return source | {"command": cut(command, LONGEST_TAG), "mlflow.note.content": f"```\n{cut(command, 7000)}\n```"}


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _config(record: FoundRecord) -> Mapping[str, Any]:
    content = record.content
    if isinstance(content, SweepReport):
        return {}
    if isinstance(content, Mapping):
        return content.get("made_by", {}).get("config") or {}
    return content.config


def _common(sweep: FoundRecord) -> dict[str, str]:
    """The parameters that are the same in all jobs of a sweep; none where it is to go on, as MLflow takes each once."""
    assert isinstance(sweep.content, SweepReport)
    found: dict[str, str] | None = None
    for job in sweep.content.jobs:
        report = read(sweep.path.parent / job / REPORT)
        if report and report.status == "interrupted":
            return {}
        if report:
            own = _params(_config(report))
            found = own if found is None else {name: own[name] for name in own if found.get(name) == own[name]}
    return found or {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration, without the place that it is sent to."""
    asked = {name: value for name, value in config.items() if name != "tracking"}
    return {key(name): cut(_text(value), LONGEST_PARAM) for name, value in flat(asked).items()}


def _name(record: FoundRecord, config: Mapping[str, Any]) -> str:
    content = record.content
    if isinstance(content, SweepReport):
        return record.path.parent.resolve().name
    if isinstance(content, JobReport):
        name = content.tiles[0].backend_name if content.tiles else None
        return f"{_words(config, name)} #{content.repeat}"
    if isinstance(content, Mapping):
        return record.path.name.removesuffix(PARITY)
    tile = content.tile if isinstance(content, WorkRecord) else content.name
    if record.sweep:
        backend_name = None if isinstance(content, ComparisonRecord) else content.backend_name
        return f"{_words(config, backend_name)}: {tile}"
    return tile


def _words(config: Mapping[str, Any], name: str | None = None) -> str:
    """A configuration by the settings that most often differ."""
    backend, chunking = config["backend"], config["chunking"]
    known = [name or str(backend["_target_"]).rpartition(".")[2], backend.get("precision")]
    known += [f"chunk {chunking['chunk_size']}", f"stride {chunking['stride']}"]
    known += [f"batch {backend['batch_size']}"] if "batch_size" in backend else []
    return " ".join(filter(None, known))


def _tags(record: FoundRecord) -> dict[str, str]:
    content = record.content
    known: dict[str, str | None]
    if isinstance(content, SweepReport):
        known = {"errors": "; ".join(content.problems), "recommendation": content.recommendation.sentence}
        return _cut_tags("benchmark", content.status, content.environment, known)
    if isinstance(content, JobReport):
        return _cut_tags(record.kind, content.status, content.environment, _known_of_job(content), content.command)
    if isinstance(content, Mapping):
        made_by = content.get("made_by") or {}
        known = {"model": (made_by.get("model") or {}).get("name")}
        return _cut_tags(record.kind, "done", made_by, known, record.command)
    return _cut_tags(record.kind, "done", content.environment, _known_of_task(content), content.command)


def _known_of_task(content: TaskRecord) -> dict[str, str | None]:
    known: dict[str, str | None] = {"config_hash": content.config_hash}
    if isinstance(content, MapEvaluation):
        known["model"] = content.model["name"] if content.model else None
    else:
        known["model"] = content.model.name
    if isinstance(content, RunRecord | MapEvaluation):
        known["map_hash"] = content.map_hash
    if not isinstance(content, ComparisonRecord):
        known["provider"] = (content.backend or {}).get("provider")
    return known


def _known_of_job(report: JobReport) -> dict[str, str | None]:
    errors = [f"{tile.tile}: {tile.error}".removeprefix(": ") for tile in report.tiles if tile.error]
    return {
        "model": report.tiles[0].model if report.tiles else None,
        "provider": report.done[0].backend.get("provider") if report.done else None,
        "config_hash": report.config_hash,
        "map_hash": " ".join(tile.map_hash for tile in report.done),
        "verdicts": " ".join(sorted({verdict.code for tile in report.done for verdict in tile.verdicts})),
        "errors": "; ".join(errors),
    }


def _cut_tags(
    task: str, status: str, machine: Environment | Mapping[str, Any], known: Mapping[str, str | None], command: str = ""
) -> dict[str, str]:
    """The tags of all records and the `known` ones, without empty ones, each as long as MLflow takes it."""
    tags = {
        "task": task,
        "status": status,
        "git_revision": machine.get("git_revision"),
        "mlflow.source.git.commit": machine.get("git_revision"),
        "machine": machine.get("machine"),
        "processor": machine.get("processor"),
        "gpus": ", ".join(gpu["name"] for gpu in machine.get("gpus", ())),
        "benexp": machine.get("benexp"),
        **known,
        **tags_of_command(command),
    }
    return {name: cut(str(value), LONGEST_TAG) for name, value in tags.items() if value}


def _files(record: FoundRecord) -> Iterator[tuple[Path, str]]:
    folder, content = record.path.parent, record.content
    yield record.path, ""
    if record.kind == "export":
        stem = record.path.name.removesuffix(PARITY)
        yield from ((path, "") for path in sorted(folder.glob(f"{stem}.stac.json")))
        return
    if record.kind in ("benchmark", SWEEP):
        pages = [path for path in sorted(folder.iterdir()) if path.suffix in (".html", ".png", ".svg", ".csv")]
        yield from ((path, "") for path in sorted(pages, key=lambda path: path.name != TABLE))
    if isinstance(content, JobReport):
        for tile in content.done:
            yield from ((path, f"tiles/{tile.tile}") for path in _ordered((folder / tile.folder).glob("*")))
    elif isinstance(content, TaskRecord):
        yield from ((path, "") for path in _ordered(folder / name for name in content.files))


def _ordered(paths: Iterable[Path]) -> list[Path]:
    """Pages and tables before rasters; no markers and no saved grids."""
    ranks = {".html": 0, ".png": 0, ".csv": 1, ".json": 1, ".tif": 3}
    wanted = [path for path in paths if path.is_file() and path.suffix != ".npz" and path.name != MARKER]
    return sorted(wanted, key=lambda path: (ranks.get(path.suffix, 2), path.name))


def _models(record: FoundRecord) -> list[Path]:
    content = record.content
    if isinstance(content, JobReport | SweepReport):
        return _onnx_files(tile.backend for tile in done_tiles(content.tiles))
    if isinstance(content, ComparisonRecord):
        return _onnx_files(one.describe for one in content.backends)
    if isinstance(content, Mapping):
        made = record.path.with_name(f"{record.path.name.removesuffix(PARITY)}.onnx")
        return [made] if content.get("format", "onnx") == "onnx" and made.is_file() else []
    return _onnx_files([content.backend or {}])


def _onnx_files(described: Iterable[Mapping[str, Any]]) -> list[Path]:
    """The .onnx files that backends ran, by their descriptions."""
    ran = dict.fromkeys(about["artefact"] for about in described if about.get("artefact"))
    return [path for path in map(Path, ran) if path.suffix == ".onnx" and path.is_file()]
