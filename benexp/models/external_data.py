"""A check that an ONNX file holds all of its model: the format allows references to other files.

Engines open such files wherever they are.

The few fields that matter are found in the file itself, as protobuf lays them out, since an installation that runs
models may lack the onnx library.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benexp.core.errors import BenexpError, one_line

# What the messages of onnx.proto hold of each other, by the numbers of their fields.
_TENSOR, _NODE = "TensorProto", "NodeProto"
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: _NODE, 5: _TENSOR, 15: "SparseTensorProto"},
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "FunctionProto": {7: _NODE, 11: "AttributeProto"},
    _NODE: {5: "AttributeProto"},
    "AttributeProto": {
        **dict.fromkeys((5, 10), _TENSOR),
        **dict.fromkeys((6, 11), "GraphProto"),
        **dict.fromkeys((22, 23), "SparseTensorProto"),
    },
    _TENSOR: {},
}
_KEY, _VALUE = 1, 2
_OP_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 4, 13, 14
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5
_DEEPEST = 100
# Messages inside each other, as for protobuf itself.


class _Field(NamedTuple):
    """A field of a message: its number, and either its integer or where its bytes lie."""

    number: int
    value: int | slice


def check_whole(path: Path) -> None:
    """Raise BenexpError where an .onnx file has tensors or compiled parts in other files; opens none of these."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            other = next(_elsewhere(content, slice(0, len(content)), "ModelProto"), None)
    except ValueError as error:
        raise BenexpError(f"{path} cannot be read as ONNX: {one_line(error)}") from error
    if other is not None:
        raise BenexpError(
            f"{path} has parts of its model elsewhere ({other!r}), which engines open wherever it leads: refused; "
            f"benexp exports whole files"
        )


def _elsewhere(content: mmap.mmap, place: slice, kind: str, depth: int = 0) -> Iterator[str]:
    """References to content outside the file, at any depth: in graphs, functions, attributes and training."""
    if depth > _DEEPEST:
        raise ValueError("its parts lie too deep inside each other")
    for number, value in _fields(content, place):
        if isinstance(value, int):
            if kind == _TENSOR and number == _DATA_LOCATION and value:
                yield "a file without a name"
        elif kind == _TENSOR and number == _EXTERNAL_DATA:
            entry = {at.number: content[at.value] for at in _fields(content, value) if isinstance(at.value, slice)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode(errors="replace")
        elif kind == _NODE and number == _OP_TYPE and content[value] == b"EPContext":
            yield "what was compiled for one device"
        elif inside := _INSIDE[kind].get(number):
            yield from _elsewhere(content, value, inside, depth + 1)


def _fields(content: mmap.mmap, place: slice) -> Iterator[_Field]:
    """The fields of the message that lies at `place`. Raises ValueError where there is none."""
    at, end = place.start, place.stop
    while at < end:
        tag, at = _varint(content, at, end)
        wire, size = tag & 7, 0
        if wire == _VARINT:
            number, at = _varint(content, at, end)
            yield _Field(tag >> 3, number)
            continue
        if wire == _BYTES:
            size, at = _varint(content, at, end)
        elif wire in (_LONG, _SHORT):
            size = 8 if wire == _LONG else 4
        else:
            raise ValueError(f"there is no field at byte {at}")
        if size > end - at:
            raise ValueError(f"the field at byte {at} is cut off")
        if wire == _BYTES:
            yield _Field(tag >> 3, slice(at, at + size))
        at += size


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number at byte `at`, seven bits a byte, and where it ends."""
    number = 0
    for place in range(at, min(at + 10, end)):
        number |= (content[place] & 127) << 7 * (place - at)
        if content[place] < 128:
            return number, place + 1
    raise ValueError(f"there is no number at byte {at}")
