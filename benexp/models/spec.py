"""A model and the place of its weights: everything downstream is keyed by a ModelSpec."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from benexp.records.model import ModelRecord


@dataclass(frozen=True)
class ModelSpec(ModelRecord):
    """A model with the `path` of its weights: a folder in the published format, or an exported file."""

    path: Path = field(kw_only=True)

    @property
    def record(self) -> ModelRecord:
        """The model without its path, which records leave out."""
        return ModelRecord(**{one.name: getattr(self, one.name) for one in fields(ModelRecord)})
