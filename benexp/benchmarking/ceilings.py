"""What a benchmark's configuration comes to without a model, which the jobs of a sweep measure once in each repeat."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benexp.config.hashing import config_hash
from benexp.config.schema import Config
from benexp.core.files import locked, replacing

NULL = "benexp.backends.null.NullBackend"
FOLDER = "ceilings"
"""Beneath a sweep's output_folder: a file for each configuration without a model, and each repeat of it."""
BEATEN = "measured faster than the ceiling, the same without a model: the machine was disturbed"


class Run(Protocol):
    """What is needed of one configuration over all products."""

    def reuse(self, saved: Mapping[str, Any], results: Path | None) -> None: ...

    def describe(self) -> dict[str, Any]: ...


def is_null(config: Config) -> bool:
    return bool(config.backend["_target_"] == NULL)


def without_model(config: Config, output_folder: Path) -> Config:
    """The same for all backends, batch sizes and threads, which are a model's own: it measures disks, decoding and
    writing. But for the repeat: machines are not equally undisturbed all the time.
    """
    return dataclasses.replace(config, output_folder=str(output_folder), backend={"_target_": NULL, "batch_size": 32})


def sweep_of(folder: Path) -> Path | None:
    """The folder of the sweep that the job which writes to `folder` is of; None of a benchmark by itself."""
    return folder.parents[2] if len(folder.parts) > 3 and folder.parents[1].name == "jobs" else None


@contextmanager
def shared(run: Run, without: Config, folder: Path) -> Iterator[None]:
    """Hold the ceiling of the sweep that the job in `folder` is of: what it has is taken over, what is new is kept.

    Jobs beside this one wait meanwhile. Where there is no sweep there is nothing to share.
    """
    sweep = sweep_of(folder)
    if sweep is None:
        yield
        return
    (sweep / FOLDER).mkdir(exist_ok=True)
    file = sweep / FOLDER / f"{config_hash(without)[:12]}-{without.benchmark.repeat}.json"
    with locked(file.with_suffix(".lock")):
        if file.exists():
            run.reuse(json.loads(file.read_text(encoding="utf-8")), None)
        yield
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(run.describe(), indent=2, default=str) + "\n", encoding="utf-8")
