"""The parts that the records of evaluations share, and the figures as text."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benexp.config.command import command
from benexp.config.hashing import config_hash
from benexp.config.schema import Config
from benexp.measure.environment import environment, peak_memory
from benexp.records.evaluation import EvaluationRecord
from benexp.records.names import EVALUATION

log = logging.getLogger("benexp")


def describe_question(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """The fields of every record about the question and the machine."""
    return {
        "command": command(overrides),
        "config": dataclasses.asdict(config),
        "config_hash": config_hash(config),
        "environment": environment(),
        "peak_memory_bytes": peak_memory(),
    }


def notes(trained: bool, others: Sequence[str] = ()) -> list[str]:
    """Notes on the figures, which are logged as warnings, too."""
    found = [*others, *(["the weights are random: the figures mean nothing"] if not trained else [])]
    for note in found:
        log.warning("%s", note)
    return found


def plain(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def figure(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def listed(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count) or "none"


def say_table(
    say: Callable[[str], object], head: tuple[str, str, str, str], rows: Sequence[tuple[str, str, float, float]]
) -> None:
    cells = [head, *((name, count, _cell(a), _cell(b)) for name, count, a, b in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, *others in cells:
        numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        say(f"{name:<{widths[0]}}  {numbers}".rstrip())


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def say_files(say: Callable[[str], object], folder: Path, record: EvaluationRecord) -> None:
    say(f"written to {folder}:")
    for name in (*record.files, EVALUATION):
        say(f"  {name}")
