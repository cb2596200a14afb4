"""Check that an ONNX file holds its whole model: the format lets it name other files, which engines open anywhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benexp.core.errors import BenexpError, one_line


def check_whole(path: Path) -> None:
    """Raise BenexpError where an .onnx file has tensors or compiled parts in other files; opens none of these."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BenexpError(f"{path} needs {error.name} to be checked: pip install onnx") from error
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.HasField("graph"):
            raise DecodeError("it has no graph")
    except DecodeError as error:
        raise BenexpError(f"{path} cannot be read as ONNX: {one_line(error)}") from error
    if (other := next(_elsewhere(model), None)) is not None:
        raise BenexpError(
            f"{path} has parts of its model elsewhere ({other!r}), which engines open wherever it leads: refused; "
            f"benexp exports whole files"
        )


def _elsewhere(message: Any) -> Iterator[str]:
    """The names of parts outside the file, at any depth: in graphs, functions, attributes and training."""
    kind = message.DESCRIPTOR.name
    if kind == "TensorProto" and (message.external_data or message.data_location == message.EXTERNAL):
        places = [entry.value for entry in message.external_data if entry.key == "location"]
        yield from places or ["a file without a name"]
    if kind == "NodeProto" and message.op_type == "EPContext":
        yield "what was compiled for one device"
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _elsewhere(part)
