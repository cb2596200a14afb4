"""Run beside an unpacked onnxruntime-gpu wheel (first on PYTHONPATH): prints as JSON what the wheel says.

    python tests/backends/gpu_wheel.py MODEL_FP32 MODEL_FP16 MODEL_INT8

`initialize_session` of the wheel's own module parses TensorRT's options before it looks for TensorRT's libraries; those
of CUDA are parsed by CUDA's provider, of which the names and values are looked up in its file.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnxruntime.capi import _pybind_state

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
CAPI = Path(onnxruntime.__file__).parent / "capi"
WORDS = re.compile(rb"(?<=\0)[A-Za-z][A-Za-z0-9_]{3,60}(?=\0)")


def parsed(options: dict[str, str], model: bytes) -> str | None:
    """The reason why TensorRT's provider refuses these options; None where it takes them."""
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 4
    session = _pybind_state.InferenceSession(session_options, model, False, False)
    try:
        session.initialize_session([TENSORRT], [options], set())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def words(file: Path) -> set[str]:
    return {word.decode() for word in WORDS.findall(file.read_bytes())}


def kinds(model: bytes) -> dict[str, str]:
    """TensorRT's options, each with what it takes, tried out."""
    (bindings,) = CAPI.glob("onnxruntime_pybind11_state*.so")
    found = {}
    for name in sorted({"device_id", *(word for word in words(bindings) if word.startswith("trt_"))}):
        taken = [kind for kind, value in TRIED.items() if parsed({name: value}, model) is None]
        if taken:
            found[name] = taken[-1]
    return found


TRIED = {"bool": "True", "int": "7", "str": "/some text"}
"""Whoever takes the last takes all."""


def optimised(backend: Any, model: Path, level: Any, into: Path) -> dict[str, Any]:
    """The nodes that are left of `model` in a session that a backend makes on the CPU provider."""
    honest = onnxruntime.InferenceSession

    def session(path: Any, options: Any, **more: Any) -> Any:
        options.optimized_model_filepath = str(into)
        options.graph_optimization_level = level
        return honest(path, options, **more)

    onnxruntime.InferenceSession = session
    try:
        backend._session_of(model, [CPU])
    finally:
        onnxruntime.InferenceSession = honest
    graph = onnx.load(into).graph
    constants = {weights.name: weights.data_type for weights in graph.initializer}
    by_output = {output: node for node in graph.node for output in node.output}

    def source(name: str) -> str:
        """The operator that a value is from, whatever the CPU provider, which has no fp16, casts on the way."""
        node = by_output.get(name)
        return "none" if node is None else source(node.input[0]) if node.op_type == "Cast" else node.op_type

    integers = onnx.TensorProto.INT32
    return {
        "counts": Counter(node.op_type for node in graph.node),
        "int32": sum(
            node.op_type == "DequantizeLinear" and constants.get(node.input[0]) == integers for node in graph.node
        ),
        "into_convolutions": sorted(
            {source(name) for node in graph.node if node.op_type == "Conv" for name in node.input[:2]}
        ),
    }


def main() -> None:
    import tempfile

    from benexp.backends.onnxruntime_gpu import OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend
    from benexp.models.resolve import DEMO_MODEL, resolve

    onnxruntime.set_default_logger_severity(4)
    models = dict(zip(("fp32", "fp16", "int8"), map(Path, sys.argv[1:]), strict=True))
    bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    spec = resolve(
        {"name": "demo", "weights": "folder", "path": DEMO_MODEL, "architecture": "test_resnet", "bands": bands}
    )
    model = models["fp32"].read_bytes()
    said: dict[str, Any] = {"version": onnxruntime.__version__, "asked": {}, "refused": {}, "optimised": {}}
    known = words(CAPI / "libonnxruntime_providers_cuda.so")
    with tempfile.TemporaryDirectory() as scratch:
        for kind in (OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend):
            for precision in kind.precisions:
                for batch in (1, 256):
                    backend = kind(spec, models["fp32"], precision=precision, batch_size=batch)
                    backend._engines = Path(scratch)  # type: ignore[attr-defined]
                    name = f"{kind.__name__} {precision} {batch}"
                    said["asked"][name] = list(backend._options(kind._PROVIDERS[0]))
                    if kind is OnnxRuntimeTensorrtBackend:
                        said["refused"][name] = parsed(dict(backend._options(TENSORRT)), model)
                    lacks = [key for key in backend._options(CUDA) if key not in known]
                    said["refused"][f"{name} cuda"] = f"unknown: {lacks}" if lacks else None
        levels = onnxruntime.GraphOptimizationLevel
        backend = OnnxRuntimeTensorrtBackend(spec, models["int8"], precision="int8")
        for name in models:
            # What is done to a graph before providers take their parts of it, and all that is done on a CPU.
            for level in (levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL):
                into = Path(scratch) / f"{name}-{level.name}.onnx"
                said["optimised"][f"{name} {level.name}"] = optimised(backend, models[name], level, into)
    said["control"] = [parsed({"trt_timing_cache_enable": "1"}, model), parsed({"no_such_option": "1"}, model)]
    said["kinds"] = kinds(model)
    said["cuda_words"] = sorted(known & set(OPTIONS["CUDAExecutionProvider"]))
    print(json.dumps(said))


OPTIONS = json.loads(Path(__file__).with_name("provider_options.json").read_text())

if __name__ == "__main__":
    main()
