"""Cutting patches on the device: graphs for ONNX Runtime that give what patches.py gives, to the bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 18
OPERATORS = frozenset(("Gather", "Transpose", "Cast", "Where"))
"""The operators that move pixels. The CUDA provider has each of them for the types below."""
UINT16 = 4
"""ONNX's number of the type."""

Memory = tuple[str, int]
"""A device and its number, in ONNX Runtime's words."""
Node = tuple[str, list[str], str, dict[str, Any]]


@dataclass
class OnDevice:
    """A chunk in a device's memory; all but `width` are ONNX Runtime's values."""

    chunk: Any
    valid: Any
    offsets: Any
    width: int
    dn: Any = None
    """Ready to be cut, in place of `chunk` and `valid`."""


def upload(chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], patch_size: int, memory: Memory) -> OnDevice:
    """A chunk [bands, h, w], brought to the device by any thread."""
    import onnxruntime

    arrays = flat(chunk, valid) | {"offsets": offsets(chunk.shape[2], patch_size)}
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, *memory) for name, array in arrays.items()}
    return OnDevice(**values, width=chunk.shape[2])


class Cutter:
    """Cuts patches into memory of the device; `start` makes a session of a serialised graph there."""

    def __init__(self, start: Callable[[bytes], Any], means: Sequence[float], patch_size: int, memory: Memory) -> None:
        self._start = start
        self._means = means
        self._shape = [len(means), patch_size, patch_size]
        self._memory = memory
        self._sessions: dict[Any, Any] = {}

    def cut(self, found: OnDevice, origins: npt.NDArray[np.int64], count: int, address: int) -> None:
        """Write the patches at `origins`, and the last of them again up to `count`, to `address`."""
        self._make_ready(found)
        if "cutting" not in self._sessions:
            self._sessions["cutting"] = self._start(cutting_graph(len(self._means)))
        session = self._sessions["cutting"]
        binding = session.io_binding()
        binding.bind_ortvalue_input("dn", found.dn)
        binding.bind_ortvalue_input("offsets", found.offsets)
        binding.bind_cpu_input("starts", starts(origins, found.width, count))
        binding.bind_output("patches", *self._memory, np.float32, [count, *self._shape], address)
        session.run_with_iobinding(binding)

    def _make_ready(self, found: OnDevice) -> None:
        if found.dn is not None:
            return
        kind = np.dtype(np.uint16 if found.chunk.element_type() == UINT16 else np.float32)
        if kind not in self._sessions:
            self._sessions[kind] = self._start(ready_graph(kind, self._means))
        session = self._sessions[kind]
        binding = session.io_binding()
        binding.bind_ortvalue_input("chunk", found.chunk)
        binding.bind_ortvalue_input("valid", found.valid)
        binding.bind_output("dn", *self._memory)
        session.run_with_iobinding(binding)
        found.dn = binding.get_outputs()[0]
        found.chunk = found.valid = None


def ready_graph(dtype: np.dtype[Any], means: Sequence[float]) -> bytes:
    """A serialised ONNX model that makes a chunk of uint16 or float32 ready, once for all of its patches.

    Takes `chunk` [bands, pixels] and `valid` [pixels]; gives `dn` [bands, pixels] float32, with the band's mean where a
    pixel is not valid.
    """
    from onnx import TensorProto, helper

    return _serialised(
        [
            ("Cast", ["chunk"], "pixels", {"to": TensorProto.FLOAT}),
            ("Where", ["valid", "pixels", "means"], "dn", {}),
        ],
        {"means": np.asarray(means, np.float32)[:, None]},
        {
            "chunk": (helper.np_dtype_to_tensor_dtype(dtype), [len(means), "all"]),
            "valid": (TensorProto.BOOL, ["all"]),
        },
        {"dn": (TensorProto.FLOAT, [len(means), "all"])},
    )


def cutting_graph(bands: int) -> bytes:
    """A serialised ONNX model that cuts patches out of a chunk that is ready.

    Takes `dn` [bands, pixels], `offsets` [p, p] and `starts` [n], the patches' upper left pixels in the flattened
    chunk; gives `patches` [n, bands, p, p].
    """
    from onnx import TensorProto

    return _serialised(
        [
            ("Unsqueeze", ["starts", "last_axes"], "corners", {}),
            ("Add", ["corners", "offsets"], "at", {}),
            ("Gather", ["dn", "at"], "by_band", {"axis": 1}),
            ("Transpose", ["by_band"], "patches", {"perm": [1, 0, 2, 3]}),
        ],
        {"last_axes": np.array([1, 2], np.int64)},
        {
            "dn": (TensorProto.FLOAT, [bands, "all"]),
            "offsets": (TensorProto.INT64, ["p", "p"]),
            "starts": (TensorProto.INT64, ["n"]),
        },
        {"patches": (TensorProto.FLOAT, ["n", bands, "p", "p"])},
    )


def _serialised(
    nodes: Sequence[Node],
    constants: Mapping[str, npt.NDArray[Any]],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
) -> bytes:
    from onnx import checker, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node(operator, taken, [given], **more) for operator, taken, given, more in nodes],
        "patches",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    # IR version 10 is what the models' exporter writes: older ONNX Runtimes refuse newer ones than they know.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def flat(chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.generic]]:
    """`chunk` and `valid` of a chunk [bands, h, w], for `ready_graph`.

    Anything but uint16 becomes float32, as it would when patches are cut on the CPU.
    """
    if chunk.dtype != np.uint16:
        chunk = chunk.astype(np.float32, copy=False)
    return {
        "chunk": np.ascontiguousarray(chunk).reshape(len(chunk), -1),
        "valid": np.ascontiguousarray(valid).reshape(-1),
    }


def offsets(width: int, patch_size: int) -> npt.NDArray[np.int64]:
    """The distances [p, p] of a patch's pixels from its first one in a flattened chunk of this width."""
    along = np.arange(patch_size, dtype=np.int64)
    return along[:, None] * width + along


def starts(origins: npt.NDArray[np.int64], width: int, count: int) -> npt.NDArray[np.int64]:
    """The first pixels [count] of the patches at `origins` [n, 2] in a flattened chunk, the last one repeated."""
    first = origins[:, 0].astype(np.int64) * width + origins[:, 1]
    return np.concatenate([first, np.repeat(first[-1:], count - len(first))])
