"""Whether an ONNX file is all there is of its model: the format lets it name others, which engines open wherever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benexp.errors import BenexpError, one_line


def check_whole(path: Path) -> None:
    """Raise BenexpError where an .onnx file has tensors or compiled parts in other files; opens none of these."""
    try:
        import onnx
    except ImportError as error:
        raise BenexpError(f"reading {path} needs {error.name}: pip install 'benexp[cpu]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    # Of what is no message each implementation of protobuf raises its own.
    except Exception as error:
        raise BenexpError(f"{path} cannot be read as ONNX: {one_line(error)}") from error
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location):
            named = {entry.key: entry.value for entry in part.external_data}
            other = named.get("location", "a file without a name")
        elif isinstance(part, onnx.NodeProto) and part.op_type == "EPContext":
            other = "what was compiled for one device"
        else:
            continue
        raise BenexpError(
            f"{path} has parts of its model elsewhere ({other!r}), which engines open wherever it leads: refused; "
            f"benexp exports whole files"
        )


def _parts(message: Any) -> Iterator[Any]:
    """All nodes and tensors of a protobuf message, at any depth: of graphs, functions, attributes and training."""
    import onnx

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in [value] if hasattr(value, "ListFields") else value:
            if isinstance(inner, onnx.TensorProto | onnx.NodeProto):
                yield inner
            if not isinstance(inner, onnx.TensorProto):
                yield from _parts(inner)
