"""Cutting patches on the device: a graph for ONNX Runtime that gives what `Backend._batches` gives, to the bit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 18
OPERATORS = frozenset(("Gather", "Transpose", "Cast", "Where"))
"""The operators that move pixels. The CUDA provider has each of them for the types below."""


def cutting_graph(dtype: np.dtype[Any], means: Sequence[float]) -> bytes:
    """A serialised ONNX model that cuts patches out of a chunk of uint16 or float32.

    Takes what `whole_chunk` gives and `starts` [n], the patches' upper left pixels in the flattened chunk; gives
    `patches` [n, bands, p, p] float32, with the band's mean where a pixel is not valid.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    bands = len(means)
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Unsqueeze", ["starts", "last_axes"], "corners", {}),
        ("Add", ["corners", "offsets"], "at", {}),
        ("Gather", ["chunk", "at"], "by_band", {"axis": 1}),
        # As small as it comes, before it is made float32.
        ("Transpose", ["by_band"], "raw", {"perm": [1, 0, 2, 3]}),
        ("Cast", ["raw"], "pixels", {"to": TensorProto.FLOAT}),
        ("Gather", ["valid", "at"], "usable", {"axis": 0}),
        ("Unsqueeze", ["usable", "band_axis"], "usable_in_all", {}),
        ("Where", ["usable_in_all", "pixels", "means"], "patches", {}),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "last_axes": np.array([1, 2], np.int64),
        "band_axis": np.array([1], np.int64),
        "means": np.asarray(means, np.float32)[:, None, None],
    }
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output], **more) for operator, inputs, output, more in nodes],
        "cutting",
        [
            helper.make_tensor_value_info("chunk", kind, [bands, "pixels"]),
            helper.make_tensor_value_info("valid", TensorProto.BOOL, ["pixels"]),
            helper.make_tensor_value_info("offsets", TensorProto.INT64, ["p", "p"]),
            helper.make_tensor_value_info("starts", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", bands, "p", "p"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    # IR version 10 is what the models' exporter writes: older ONNX Runtimes refuse newer ones than they know.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def whole_chunk(
    chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], patch_size: int
) -> dict[str, npt.NDArray[np.generic]]:
    """The inputs that are the same for all patches of a chunk [bands, h, w]: `chunk`, `valid` and `offsets`.

    Anything but uint16 becomes float32, as it would when patches are cut on the CPU.
    """
    along = np.arange(patch_size, dtype=np.int64)
    if chunk.dtype != np.uint16:
        chunk = chunk.astype(np.float32, copy=False)
    return {
        "chunk": np.ascontiguousarray(chunk).reshape(len(chunk), -1),
        "valid": np.ascontiguousarray(valid).reshape(-1),
        "offsets": along[:, None] * chunk.shape[2] + along,
    }


def starts(origins: npt.NDArray[np.int64], width: int, count: int) -> npt.NDArray[np.int64]:
    """Where the patches at `origins` [n, 2] start in a flattened chunk: [count], the last one repeated."""
    first = origins[:, 0].astype(np.int64) * width + origins[:, 1]
    return np.concatenate([first, np.repeat(first[-1:], count - len(first))])
