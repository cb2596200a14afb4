"""What the schemas of STAC and its extensions say of an item or a collection, without a network."""

import json
from pathlib import Path
from typing import Any

import referencing
from jsonschema import Draft7Validator
from pystac.validation import validate_dict
from referencing.jsonschema import DRAFT7

SCHEMAS = Path(__file__).parents[1].parent / "shared" / "data" / "stac-schemas"
_BASE = "https://stac-extensions.github.io"


def validate_core(content: dict[str, Any]) -> None:
    """Raises pystac.STACValidationError. pystac carries the core's schemas; those of the extensions it would fetch."""
    # As it is: of objects, pystac follows the links while it validates them.
    validate_dict({**content, "stac_extensions": []})


def validate_extensions(content: dict[str, Any]) -> set[str]:
    """Hold it against those of its extensions whose schemas are here; their names. Raises ValidationError."""
    schemas = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    # The MLM schema points into versions of two others that are not here: what it takes from there has not changed.
    data_types = {"enum": ["float32", "float64", "uint16", "uint8"]}
    raster = {"definitions": {"bands": {"items": {"properties": {"data_type": data_types}}}}}
    expression = {"definitions": {"fields": {"properties": {"processing:expression": {"type": "object"}}}}}
    stored = {
        f"{_BASE}/classification/v1.1.0/schema.json": schemas["classification"],
        f"{_BASE}/raster/v1.1.0/schema.json": raster,
        f"{_BASE}/processing/v1.1.0/schema.json": expression,
    }
    registry = referencing.Registry().with_resources(
        (uri, DRAFT7.create_resource({key: value for key, value in schema.items() if key != "$id"}))
        for uri, schema in stored.items()
    )
    named = {name for name, schema in schemas.items() if schema["$id"].rstrip("#") in content["stac_extensions"]}
    for name in sorted(named):
        Draft7Validator(schemas[name], registry=registry).validate(content)
    return named
