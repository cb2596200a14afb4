"""What omegaconf lets pass: lists and groups of keys that hold something else than the schema says."""

import dataclasses
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from benexp.core.errors import BenexpError

# What omegaconf calls the types, in words.
TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "String": "a text",
    "ListConfig": "a list such as [a,b]",
    "Dict": "several keys, such as {fp32: 0.0001}: name one of them",
    "bool": "true or false",
}


def check_kinds(config: Any, prefix: str = "") -> None:
    """Hold lists and groups of keys against the schema.

    Omegaconf takes anything there that an interpolation comes to, and lists in lists. Raises BenexpError for those.
    """
    for name, hint in get_type_hints(type(config)).items():
        key, value = f"{prefix}{name}", getattr(config, name)
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if hint is Any or (value is None and NoneType in kinds):
            continue
        kind: Any = get_origin(kinds[0]) or kinds[0]
        items = get_args(kinds[0])
        group = dataclasses.is_dataclass(kind)
        if group and isinstance(value, kind):
            check_kinds(value, f"{key}.")
        elif group or (kind is dict and not isinstance(value, dict)):
            raise BenexpError(f"{key}={value}: takes {TYPES['Dict']}")
        elif kind is dict and items[1] is float and not all(_is_number(item) for item in value.values()):
            raise BenexpError(f"{key}={value}: takes numbers")
        elif kind is list and not (isinstance(value, list) and all(_is_a(item, items[0]) for item in value)):
            raise BenexpError(f"{key}={value}: takes {TYPES['ListConfig']}, of {_ITEMS[items[0]]}")


_ITEMS = {str: "texts", int: "whole numbers", float: "numbers"}


def _is_a(item: Any, kind: type) -> bool:
    return _is_number(item) if kind is float else type(item) is kind


def _is_number(item: Any) -> bool:
    return type(item) in (int, float)
