"""The check of a composed configuration against the schema, with one-line messages."""

import copy
import dataclasses
import re
from collections.abc import Iterator
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benexp.config.schema import RENAMED, Config, rules
from benexp.core.errors import BenexpError

_TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "String": "a text",
    "ListConfig": "a list such as [a,b]",
    "Dict": "several keys, such as {fp32: 0.0001}: name one of them",
    "bool": "true or false",
}
"""Words for the types, by omegaconf's names."""
_ITEMS = {str: "texts", int: "whole numbers", float: "numbers"}


def check(composed: DictConfig) -> Config:
    """The typed configuration. Raises BenexpError naming the key, what it got and what it takes."""
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), _scalars_in_lists(composed)))
    except OmegaConfBaseException as error:
        raise BenexpError(_message(error, composed)) from error
    assert isinstance(config, Config)
    _check_group(config)
    for key, got, right, takes in rules(config):
        if not right:
            raise BenexpError(f"{key}={got}: takes {takes}")
    return config


def _scalars_in_lists(composed: DictConfig) -> DictConfig:
    """A copy in which a scalar in place of a list, as in `mask.scl=9`, is a list of that one element."""
    copied = copy.deepcopy(composed)
    for key in _list_keys(Config):
        with suppress(OmegaConfBaseException):  # named when the schema is merged
            if isinstance(value := OmegaConf.select(copied, key), str | int | float):
                OmegaConf.update(copied, key, [value])
    return copied


def _list_keys(group: type, prefix: str = "") -> Iterator[str]:
    """The keys of the schema that take a list."""
    for name, hint in get_type_hints(group).items():
        kind = get_args(hint)[0] if isinstance(hint, UnionType) else hint
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _list_keys(kind, f"{prefix}{name}.")
        elif get_origin(kind) is list:
            yield f"{prefix}{name}"


def _check_group(group: Any, prefix: str = "") -> None:
    """Check the types and limits of a group's keys, and of the groups in it."""
    hints = get_type_hints(type(group))
    for one in dataclasses.fields(group):
        key, value, hint = f"{prefix}{one.name}", getattr(group, one.name), hints[one.name]
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if value is None and NoneType in kinds:
            continue
        if hint is not Any:
            _check_type(key, value, kinds[0])
        if dataclasses.is_dataclass(value):
            _check_group(value, f"{key}.")
        if (limit := one.metadata.get("limit")) and not limit.accepts(value):
            raise BenexpError(f"{key}={value}: takes {limit.takes}")


def _check_type(key: str, value: Any, hint: Any) -> None:
    """Check a list or group: omegaconf takes any result of an interpolation there, and lists in lists."""
    kind = get_origin(hint) or hint
    items = get_args(hint)
    if (dataclasses.is_dataclass(kind) or kind is dict) and type(value) is not kind:
        raise BenexpError(f"{key}={value}: takes {_TYPES['Dict']}")
    if kind is dict and items[1] is float and not all(_is_number(item) for item in value.values()):
        raise BenexpError(f"{key}={value}: takes numbers")
    if kind is list and not (isinstance(value, list) and all(_is_a(item, items[0]) for item in value)):
        raise BenexpError(f"{key}={value}: takes {_TYPES['ListConfig']}, of {_ITEMS[items[0]]}")


def _is_a(item: Any, kind: type) -> bool:
    return _is_number(item) if kind is float else type(item) is kind


def _is_number(item: Any) -> bool:
    return type(item) in (int, float)


def _keys_of(group: str) -> list[str]:
    """The keys of a group of the schema, such as `execution.slurm`; of the whole schema where `group` is empty."""
    kind: type[Any] = Config
    for name in filter(None, group.split(".")):
        kind = get_type_hints(kind)[name]
    return [one.name for one in dataclasses.fields(kind)]


def _message(error: OmegaConfBaseException, composed: DictConfig) -> str:
    """One line about an error of omegaconf: the key, what it got and what it takes."""
    key = error.full_key or "the configuration"
    what = str(error.msg or error).splitlines()[0]
    try:
        got = OmegaConf.select(composed, str(key), throw_on_missing=False) if error.full_key else None
    except OmegaConfBaseException:  # it is an interpolation that comes to nothing
        return f"{key}: {what}"
    for name, words in _TYPES.items():
        if re.search(rf"converted to {name}|not a valid {name}|not a {name}|to {name}\[", what):
            return f"{key}={got}: takes {words}"
    if "not in" in what and error.full_key:
        if str(key) in RENAMED:
            return f"{key} is now {RENAMED[str(key)]}"
        parent = str(key).rpartition(".")[0]
        return f"unknown key {key}: {parent or 'the configuration'} takes {', '.join(_keys_of(parent))}"
    return f"{key}={got}: {what}"
