import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import exporters.onnx
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import HASH_KEY, embedded_hash
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from benexp.version import __version__
from exporters.onnx import OPSET, export_onnx
from tests.models.builders import S2
from tests.without import TORCH, run_without


@pytest.fixture
def quick(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take the file that was exported already: for tests of what happens around it."""
    monkeypatch.setattr(
        exporters.onnx, "write_onnx", lambda _classifier, _spec, path, _props, _batch: shutil.copy(small_onnx, path)
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_export_is_one_file_that_says_what_it_is(
    small_model: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = replace(small_model, name="my model", revision="abc")
    report = export_onnx(spec, tmp_path / "m.onnx")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")

    assert names_in(tmp_path) == ["m.onnx", "m.parity.json"]
    assert report["passed"]
    assert json.loads((tmp_path / "m.parity.json").read_text()) == report
    assert report["precision"] == "fp32"
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model)
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == OPSET
    assert [node.name for node in model.graph.input] == ["patches"]
    assert [node.name for node in model.graph.output] == ["probabilities"]
    batch, *rest = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [10, 120, 120]
    operators = {node.op_type for node in model.graph.node}
    assert "Sigmoid" in operators
    assert "BatchNormalization" not in operators
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert said.pop(HASH_KEY) == embedded_hash(tmp_path / "m.onnx")
    assert {key.removeprefix("benexp."): json.loads(value) for key, value in said.items()} == {
        "name": "my model",
        "architecture": spec.architecture,
        "bands": list(S2),
        "means": list(spec.means),
        "stds": list(spec.stds),
        "patch_size": 120,
        "classes": list(spec.classes),
        "weights": "random",
        "source": "random weights, seed 0",
        "revision": "abc",
        "trained": False,
        "weights_hash": spec.weights_hash,
        "precision": "fp32",
        "batch": None,
        "upsampling": "nearest",
        "benexp_version": __version__,
    }


@pytest.mark.usefixtures("quick")
def test_an_export_that_differs_is_not_kept(
    small_model: ModelSpec, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exporters.onnx.onnx_answer
    monkeypatch.setattr(exporters.onnx, "onnx_answer", lambda path: lambda batch: honest(path)(batch) + 2e-4)
    with pytest.raises(BenexpError, match=r"differs from the model on torch at fp32: by 2\.\de-04 on \w+ .* not kept"):
        export_onnx(small_model, tmp_path / "m.onnx")
    assert names_in(tmp_path) == ["m.worst.npz"]
    with np.load(tmp_path / "m.worst.npz") as worst:
        assert worst["patch"].shape == (10, 120, 120)
        assert str(worst["kind"]) in {"realistic", "random", "constant", "zero", "saturated"}
        assert np.abs(worst["candidate"] - worst["reference"]).max() == pytest.approx(2e-4, rel=0.5)

    monkeypatch.undo()
    monkeypatch.setattr(exporters.onnx, "write_onnx", lambda *args: shutil.copy(small_onnx, args[2]))
    export_onnx(small_model, tmp_path / "m.onnx")
    assert names_in(tmp_path) == ["m.onnx", "m.parity.json"]


def test_an_export_that_fails_leaves_nothing(
    small_model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_classifier: object, _spec: object, path: Path, _properties: object, _batch: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(exporters.onnx, "write_onnx", half)
    with pytest.raises(OSError, match="no space"):
        export_onnx(small_model, tmp_path / "m.onnx")
    assert names_in(tmp_path) == []


def test_two_exports_at_once_do_not_meet(
    small_model: ModelSpec, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(_classifier: object, spec: ModelSpec, path: Path, _properties: object, _batch: object) -> None:
        written.append(path)
        path.write_bytes(b"half of the first")
        if len(written) == 1:
            # Another process begins now and is done before this one goes on.
            export_onnx(spec, tmp_path / "m.onnx")
            assert path.read_bytes() == b"half of the first"
        shutil.copy(small_onnx, path)

    monkeypatch.setattr(exporters.onnx, "write_onnx", write)
    export_onnx(small_model, tmp_path / "m.onnx")
    assert written[0] != written[1]
    assert names_in(tmp_path) == ["m.onnx", "m.parity.json"]
    assert sha256(tmp_path / "m.onnx") == sha256(small_onnx)


def test_unknown_precision(small_model: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="at int4: takes fp32"):
        export_onnx(small_model, tmp_path / "m.onnx", precision="int4")


SCRIPT = """
import sys
import numpy as np
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.models.resolve import resolve
from exporters.cached import cached

spec = resolve({"name": "mine", "weights": "onnx", "path": sys.argv[1]})
chunk = np.load(sys.argv[2])
with OnnxRuntimeBackend(spec, cached(spec, "onnx"), threads=1) as backend:
    answer = backend.classify(chunk, np.ones(chunk.shape[1:], bool), np.zeros((1, 2), int))
np.save(sys.argv[3], answer)
print(spec.name, spec.weights, spec.trained, spec.source, *spec.bands, sep="|")
"""


def test_an_exported_file_works_where_torch_does_not(small_model: ModelSpec, small_onnx: Path, tmp_path: Path) -> None:
    chunk = varied_patches(S2, 1, seed=5)[0].astype(np.uint16)
    np.save(tmp_path / "chunk.npy", chunk)
    said = run_without(
        {*TORCH, "onnx", "safetensors"}, SCRIPT, small_onnx, tmp_path / "chunk.npy", tmp_path / "answer.npy"
    )
    source = f"{small_onnx.name}, exported from random weights, seed 0"
    assert said.split("|") == ["small", "onnx", "False", source, *S2]
    with OnnxRuntimeBackend(small_model, small_onnx, threads=1) as backend:
        here = backend.classify(chunk, np.ones((120, 120), bool), np.zeros((1, 2), int))
    assert np.array_equal(np.load(tmp_path / "answer.npy"), here)
