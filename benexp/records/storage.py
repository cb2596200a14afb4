"""Records as JSON files: written whole or not at all, read with a check of their version and types."""

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benexp.core.errors import BenexpError
from benexp.core.files import replacing

SCHEMA_VERSION = 1
"""The version of all record types. It rises when a field changes its name, type or meaning; new fields leave it."""

Record = TypeVar("Record")


def to_json(record: Any) -> bytes:
    """A record, or a part of one, as indented JSON with a final line break. NaN becomes null."""
    return msgspec.json.format(msgspec.json.encode(record, enc_hook=_plain), indent=2) + b"\n"


def to_dict(record: Any) -> dict[str, Any]:
    """The content of a record as JSON would hold it."""
    content: dict[str, Any] = json.loads(to_json(record))
    return content


def write_record(path: Path, record: Any) -> None:
    """Write a record to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_json(record))


def read_record(path: Path, kind: type[Record]) -> Record:
    """The record of type `kind` in the file `path`.

    Raises BenexpError where the file cannot be read, is no such record, or has an unknown schema version.
    """
    try:
        return decode_record(path.read_bytes(), kind, str(path))
    except OSError as error:
        raise BenexpError(f"{path}: cannot be read: {error.strerror or error}") from error


def decode_record(content: bytes, kind: type[Record], where: str) -> Record:
    """The record of type `kind` in `content`; `where` names it in errors, which are those of `read_record`."""
    checked_fields(content, where)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise BenexpError(f"{where}: is no {kind.__name__}: {error}") from error


def checked_fields(content: bytes, where: str) -> dict[str, Any]:
    """The fields of a record of any type. Raises BenexpError where it is none, or has an unknown schema version."""
    try:
        fields: dict[str, Any] = json.loads(content)
        version = fields.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise BenexpError(f"{where}: is no record of benexp: {error}") from error
    if version != SCHEMA_VERSION:
        found = "no schema version" if version is None else f"schema version {version}"
        raise BenexpError(
            f"{where}: has {found}, this benexp reads version {SCHEMA_VERSION}: read it with the benexp that wrote it, "
            "or run again"
        )
    return fields


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record type."""
    return msgspec.json.schema(kind)


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own number; anything else, such as a path, as text."""
    return value.item() if hasattr(value, "item") else str(value)
