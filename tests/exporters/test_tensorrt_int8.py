"""The int8 form that TensorRT takes, made of fp32 and fp16 files."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.models.resolve import DEMO_MODEL, resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import cached, typed_source
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from exporters.tensorrt_int8 import UNDOES, _scale_weights, quantize_for_tensorrt
from tests.models.builders import S2

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RANGES = RangePatches("key", "8 patches", lambda: varied_patches(S2, 8, seed=3))


@pytest.fixture(scope="module")
def demo() -> ModelSpec:
    """Trained, so that how far int8 is off says something."""
    config = {"name": "demo", "weights": "folder", "path": DEMO_MODEL, "architecture": "test_resnet", "bands": S2}
    return resolve(config)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def made(request: pytest.FixtureRequest, demo: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The type of the file, the int8 file made of it, and the parity report."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    source = cached(demo, "onnx", Recipe(request.param))
    report = quantize_for_tensorrt(demo, source, path, Recipe("int8", ranges=RANGES))
    assert sorted(file.name for file in path.parent.iterdir()) == ["int8.onnx", "int8.parity.json"]
    return request.param, path, report


def constants(model: Any) -> dict[str, np.ndarray]:
    return {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}


def test_it_is_what_tensorrt_takes(made: Any) -> None:
    precision, path, _ = made
    model = onnx.load(path)
    values = constants(model)
    assert not [name for name, value in values.items() if value.dtype == np.int32]
    counts = Counter(node.op_type for node in model.graph.node)
    # What enters each, and its weights.
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] >= counts["Conv"] + counts["Gemm"]
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        _, scale, zero = (values.get(name) for name in node.input)
        assert zero is not None
        assert zero.dtype == np.int8
        assert not zero.any()
        assert scale is not None
        assert scale.dtype == {"fp32": np.float32, "fp16": np.float16}[precision]
        assert (scale > 0).all()
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["benexp.precision"] == '"int8"'


def test_skip_connections_are_of_8_bits_and_convolutions_go_straight_into_additions(made: Any) -> None:
    _, path, _ = made
    model = onnx.load(path)
    by_output = {output: node.op_type for node in model.graph.node for output in node.output}
    ends = [sorted(by_output[name] for name in node.input) for node in model.graph.node if node.op_type == "Add"]
    assert ends == [["Conv", "DequantizeLinear"]] * 4


def test_it_answers_as_the_model(made: Any) -> None:
    _, _, report = made
    assert report["passed"]
    # The same of fp16 and of fp32: the types between the convolutions do not show.
    assert report["mean_abs_diff"] < 0.01


def test_onnx_runtime_leaves_biases_alone_where_it_is_asked_to(made: Any, tmp_path: Path) -> None:
    precision, path, _ = made

    def integers(disabled: frozenset[str]) -> int:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{len(disabled)}.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=set(disabled)
        )
        optimised = onnx.load(options.optimized_model_filepath)
        values = constants(optimised)
        nodes = [node for node in optimised.graph.node if node.op_type == "DequantizeLinear"]
        return sum(node.input[0] in values and values[node.input[0]].dtype == np.int32 for node in nodes)

    assert integers(UNDOES) == 0
    # Of fp16, integers and all have gone into the CPU provider's own convolutions by then.
    assert precision == "fp16" or integers(frozenset()) > 0


def test_channels_of_small_weights_keep_their_scale() -> None:
    """By hand: 12.7 / 127 = 0.1; 0.00127 / 127 = 0.00001, below fp16's normal numbers; nothing at all."""
    helper = onnx.helper
    weights = np.array([[12.7, -1], [0.00127, 0], [0, 0]], np.float16)
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["weights", "scale", "zero"], ["quantised"], axis=0)],
        "one",
        [],
        [helper.make_tensor_value_info("quantised", onnx.TensorProto.INT8, [3, 2])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.ones(3, np.float16), "scale"),
            onnx.numpy_helper.from_array(np.zeros(3, np.int8), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    _scale_weights(model)
    scale = constants(model)["scale"].astype(np.float64)
    assert scale[:2] == pytest.approx([0.1, 0.00001], rel=0.01)
    assert scale[2] > 0
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {})[0].tolist() == [[127, -10], [127, 0], [0, 0]]


def test_engines_are_built_from_the_fp16_file(demo: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "benexp"):
        path = typed_source(demo, Recipe("int8", ranges=RANGES))
    assert path.parent.name == "tensorrt-onnx"
    types = {value.dtype for name, value in constants(onnx.load(path)).items() if name.endswith("_scale")}
    assert types == {np.dtype(np.float16)}
