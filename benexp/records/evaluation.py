"""evaluation.json: the accuracy of a map against a reference, or of a backend on labelled patches."""

from dataclasses import dataclass, field
from typing import Any

from benexp.records.environment import Environment
from benexp.records.model import ModelRecord
from benexp.records.run import FileRecord
from benexp.records.storage import SCHEMA_VERSION, checked_fields, decode_record

Scores = dict[str, float | None]
"""By name of the score; None where it is undefined."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """The fields that both kinds of evaluation have."""

    schema_version: int = SCHEMA_VERSION
    name: str
    backend: dict[str, Any] | None
    backend_name: str | None
    macro: Scores
    """Means over classes."""
    command: str
    config: dict[str, Any]
    config_hash: str
    environment: Environment
    peak_memory_bytes: int
    notes: list[str]
    seconds: float
    files: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MapClassScores:
    """One class of a map against the reference."""

    class_id: int
    class_name: str
    reference_pixels: int
    map_pixels: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None


@dataclass(frozen=True)
class ComparedPixels:
    """Pixels that were compared, and those left out by the reason."""

    compared: int
    left_out: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class MapEvaluation(EvaluationRecord):
    """A map against a reference raster."""

    map: str
    map_file: FileRecord
    map_hash: str | None
    model: dict[str, Any] | None
    """The record of the model, or as much of it as the tags of the map hold."""
    reference: str
    reference_file: FileRecord
    reference_codes: str
    pixels: ComparedPixels
    overall_accuracy: float | None
    kappa: float | None
    classes: list[MapClassScores]
    confusion: list[list[int]]
    """[reference, map]"""


@dataclass(frozen=True, kw_only=True)
class PatchClassScores:
    """One class of labelled patches."""

    class_id: int
    class_name: str
    labelled: int
    predicted: int
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class EvaluatedPatches:
    """Patches that were classified, and those left out by the reason."""

    evaluated: int
    left_out: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class PatchEvaluation(EvaluationRecord):
    """A backend's answers for labelled patches against their labels."""

    model: ModelRecord
    patches: EvaluatedPatches
    path: str
    metadata: str
    split: str | None
    thresholds: list[float]
    """By class: a patch is predicted to have a class above it."""
    micro: Scores
    """Over all patches and classes at once."""
    classes: list[PatchClassScores]
    patches_per_second: float
    stage_seconds: dict[str, float]


def decode_evaluation(content: bytes, where: str) -> MapEvaluation | PatchEvaluation:
    """The evaluation in `content`; `where` names it in errors, which are those of `read_record`."""
    if "confusion" in checked_fields(content, where):
        return decode_record(content, MapEvaluation, where)
    return decode_record(content, PatchEvaluation, where)
