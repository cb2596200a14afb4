"""The differences between the configurations of a sweep: names for people, and overrides to type."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benexp.config.hashing import NOT_IN_HASH

PLAIN = ("backend", "model.name", "backend.precision", "backend.device")
"""Keys whose value says by itself what it is; they come first."""
SHORT = {
    "chunking.chunk_size": "chunk",
    "backend.batch_size": "batch",
    "backend.threads": "threads",
    "chunking.stride": "stride",
}
"""Keys with a shorter name, which come next."""


@dataclass(frozen=True)
class Label:
    """`name` such as `onnxruntime-cpu, chunk 2048, batch 32`; `overrides` such as `backend.batch_size=32`."""

    name: str
    overrides: list[str]


def labels(configs: Sequence[Mapping[str, Any]], backends: Sequence[str]) -> list[Label]:
    """A label for each resolved configuration, whose backend has that name: what not all of them have alike.

    A key that only one kind of backend has tells nothing by itself.
    """
    every = [settings(config) for config in configs]
    for one, backend in zip(every, backends, strict=True):
        one.pop("backend._target_", None)
        one["backend"] = backend
    varying = {
        key for one in every for key in one if len({json.dumps(other[key]) for other in every if key in other}) > 1
    }
    if "model.name" in varying:
        varying -= {key for key in varying if key.startswith("model.") and key != "model.name"}
    order = [*PLAIN, *SHORT, *sorted(varying - {*PLAIN, *SHORT})]
    found = []
    for one in every:
        keys = [key for key in order if key in one and (key in varying or key == "backend")]
        found.append(
            Label(", ".join(_words(key, one[key]) for key in keys), [_override(key, one[key]) for key in keys])
        )
    return _apart(found)


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration, as `chunking.stride` and so on, without paths and how it is measured."""
    return flat({key: value for key, value in config.items() if key not in NOT_IN_HASH})


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as `chunking.stride` and so on; an empty group is a value."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        is_group = isinstance(inner, Mapping) and inner
        found |= flat(inner, f"{prefix}{key}.") if is_group else {f"{prefix}{key}": inner}
    return found


def _words(key: str, value: Any) -> str:
    text = _text(value)
    if key in PLAIN:
        return text
    if value is None and key in SHORT:
        text = "all" if key == "backend.threads" else "default"
    return f"{SHORT[key]} {text}" if key in SHORT else f"{key}={text}"


def _override(key: str, value: Any) -> str:
    group = key.removesuffix(".name") if key == "model.name" else key
    return f"{group}={_text(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _apart(found: Sequence[Label]) -> list[Label]:
    """Number those that would be called alike: they differ in what is no setting."""
    seen: dict[str, int] = {}
    made = []
    for label in found:
        seen[label.name] = count = seen.get(label.name, 0) + 1
        made.append(label if count == 1 else Label(f"{label.name} ({count})", label.overrides))
    return made
