"""Parts of an ONNX model in other files are never opened, wherever the file says they are."""

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import embed_hash
from benexp.models.external_data import check_whole
from benexp.models.metadata import to_metadata
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.models.builders import model_config


def constant(location: str | None) -> onnx.TensorProto:
    """Two numbers, in the file at `location`."""
    tensor = onnx.helper.make_tensor("weights", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return tensor


def graph(name: str, *nodes: onnx.NodeProto, weights: onnx.TensorProto | None = None) -> onnx.GraphProto:
    answer = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [2])
    return onnx.helper.make_graph(list(nodes), name, [], [answer], [weights] if weights else [])


def write(path: Path, spec: ModelSpec, content: onnx.GraphProto, functions: Any = ()) -> Path:
    """A file with the metadata and the hash of an export, as anyone can make it."""
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own", 1)]
    model = onnx.helper.make_model(content, opset_imports=opsets, functions=functions)
    onnx.helper.set_model_props(model, to_metadata(spec, "fp32"))
    path.write_bytes(model.SerializeToString())
    embed_hash(path)
    return path


SAME = onnx.helper.make_node("Identity", ["weights"], ["probabilities"])


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Whoever opens it waits for ever."""
    os.mkfifo(tmp_path / "trap")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "trap")
    os.mkfifo(tmp_path / "model" / "beside")
    return tmp_path / "trap"


@pytest.mark.parametrize("location", ["beside", "../trap", "link", "ABSOLUTE", ""])
def test_weights_in_another_file_are_refused_before_an_engine_sees_them(
    location: str, trap: Path, small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = location.replace("ABSOLUTE", str(trap))
    path = write(trap.parent / "model" / "m.onnx", small_model, graph("g", SAME, weights=constant(location)))
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("an engine opened it"))
    with pytest.raises(BenexpError, match=r"m\.onnx has parts of its model elsewhere .*: refused") as raised:
        resolve(model_config(weights="onnx", path=path))
    assert repr(location) in str(raised.value)


def test_they_are_found_wherever_they_hide(small_model: ModelSpec, tmp_path: Path) -> None:
    far = constant("../far")
    attribute = onnx.helper.make_node("Constant", [], ["probabilities"], value=far)
    branches = {name: graph(name, attribute) for name in ("then_branch", "else_branch")}
    choice = onnx.helper.make_node("If", ["weights"], ["probabilities"], **branches)
    sparse = graph("g", SAME)
    sparse.sparse_initializer.add(values=far, dims=[2])
    function = onnx.helper.make_function("own", "F", [], ["probabilities"], [attribute], [])
    called = graph("g", onnx.helper.make_node("F", [], ["probabilities"], domain="own"))
    compiled = onnx.helper.make_node("EPContext", [], ["probabilities"], domain="com.microsoft", embed_mode=0)
    for number, content in enumerate((graph("g", attribute), graph("g", choice, weights=constant(None)), sparse)):
        with pytest.raises(BenexpError, match=r"elsewhere \('\.\./far'\)"):
            check_whole(write(tmp_path / f"{number}.onnx", small_model, content))
    with pytest.raises(BenexpError, match=r"elsewhere \('\.\./far'\)"):
        check_whole(write(tmp_path / "f.onnx", small_model, called, [function]))
    with pytest.raises(BenexpError, match="compiled for one device"):
        check_whole(write(tmp_path / "c.onnx", small_model, graph("g", compiled)))


def test_whole_files_pass(small_onnx: Path, small_model: ModelSpec, tmp_path: Path) -> None:
    check_whole(small_onnx)
    check_whole(write(tmp_path / "m.onnx", small_model, graph("g", SAME, weights=constant(None))))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 100,
        b"\x3a\xff\xff\xff\xff\x0f",  # a graph that ends behind the file
        b"\x3a",
        b"\x3b\x3c",  # a group, which ONNX has none of
        b"\x08" + b"\x80" * 20,
    ],
)
def test_what_is_no_protobuf_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BenexpError, match=r"x\.onnx cannot be read as ONNX") as raised:
        check_whole(tmp_path / "x.onnx")
    assert "\n" not in str(raised.value)


def test_graphs_without_end_are_told(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes((number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14)) + content

    graph = b""
    for _ in range(60):
        graph = field(1, field(5, field(6, graph)))  # a node, its attribute, a graph
    (tmp_path / "x.onnx").write_bytes(field(7, graph))
    with pytest.raises(BenexpError, match="too deep inside each other"):
        check_whole(tmp_path / "x.onnx")
