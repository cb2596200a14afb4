"""What the records of evaluations share, and how their figures are said."""

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

log = logging.getLogger("benexp")

RECORD = "evaluation.json"
"""Written last: where it is, the evaluation is complete."""


def describe_question(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """What every record has of the question and the machine."""
    return {
        "command": command(overrides),
        "config": dataclasses.asdict(config),
        "config_hash": config_hash(config),
        "environment": environment(),
        "peak_memory_bytes": peak_memory(),
    }


def notes(model: Mapping[str, Any] | None, others: Sequence[str] = ()) -> list[str]:
    """What a reader of the figures must know; said to the user, too."""
    untrained = model is not None and not model["trained"]
    found = [*others, *(["the weights are random: the figures mean nothing"] if untrained else [])]
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


def say_files(say: Callable[[str], object], folder: Path, record: Mapping[str, Any]) -> None:
    say(f"written to {folder}:")
    for name in (*record["files"], RECORD):
        say(f"  {name}")
