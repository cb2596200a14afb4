"""The TensorRT backend on a stand-in for the library: what it asks of it, and what it says when something is wrong."""

import gc
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.tensorrt import TensorrtBackend
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from benexp.runs.backend_choice import choose_backend
from tests.backends.fake_tensorrt import GPU, STREAM, Fake, FakeGpu, fake_tensorrt  # noqa: F401
from tests.models.builders import S2

SIZE = 200
CHUNK = varied_patches(S2, 1, SIZE, seed=2)[0].astype(np.uint16)
VALID = np.add.outer(np.arange(SIZE), np.arange(SIZE)) > 100
ORIGINS = np.array([(row, col) for row in (0, 40, 80) for col in (0, 60, 80)])


def config(**more: Any) -> Mapping[str, Any]:
    return {"_target_": "benexp.backends.tensorrt.TensorrtBackend", "batch_size": 4, "device": "cuda", **more}


def test_answers_are_those_of_the_model(
    fake_tensorrt: Fake,  # noqa: F811
    small_model: ModelSpec,
    small_onnx: Path,
) -> None:
    with OnnxRuntimeBackend(small_model, small_onnx) as reference:
        expected = reference.classify(CHUNK, VALID, ORIGINS)
    with choose_backend(config()).make(small_model) as backend:
        fake_tensorrt.calls.clear()
        answer = backend.classify(CHUNK, VALID, ORIGINS)
        # Nine patches, four at once, the last batch filled up.
        assert fake_tensorrt.calls == [("execute_async_v3", (STREAM,))] * 3
        assert backend.classify(CHUNK, VALID, ORIGINS[:0]).shape == (0, 19)
        said = backend.describe()
    assert np.abs(answer - expected).max() < 1e-5
    assert said["engine"] == "tensorrt 10.9.0.34"
    assert said["provider"] == GPU
    assert said["batch_size"] == 4
    assert said["workspace_gb"] == 4


def test_every_batch_is_timed(fake_tensorrt: Fake, small_model: ModelSpec) -> None:  # noqa: F811
    seconds: list[float] = []
    with choose_backend(config()).make(small_model) as backend:
        backend.on_batch = seconds.append
        backend.classify(CHUNK, VALID, ORIGINS)
        backend.on_batch = None
        backend.classify(CHUNK, VALID, ORIGINS)
    assert len(seconds) == 3
    assert min(seconds) > 0


def test_out_of_memory_builds_for_half_the_batch(
    fake_tensorrt: Fake,  # noqa: F811
    small_model: ModelSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_tensorrt.most = 2
    with choose_backend(config(batch_size=8, workspace_gb=3)).make(small_model) as backend:
        answer = backend.classify(CHUNK, VALID, ORIGINS)
    built = [arguments for name, arguments in fake_tensorrt.calls if name == "build_serialized_network"]
    assert [shape[0] for (shape,) in built] == [8, 4, 2]
    assert backend.batch_size == 2
    assert answer.shape == (9, 19)
    assert "out of memory with 8 patches at once, going on with 4" in caplog.text


def test_no_memory_for_one_patch_is_said(fake_tensorrt: Fake, small_model: ModelSpec) -> None:  # noqa: F811
    fake_tensorrt.most = 0
    with pytest.raises(BenexpError, match=r"OutOfMemory \(no further information\): not even one patch at a time fits"):
        choose_backend(config(batch_size=2, workspace_gb=2)).make(small_model).open()


def test_a_failed_batch_stops(fake_tensorrt: Fake, small_model: ModelSpec) -> None:  # noqa: F811
    with choose_backend(config()).make(small_model) as backend:
        fake_tensorrt.refuses_execution = True
        with pytest.raises(BenexpError, match=r"TensorRT failed on .*small-fp32-.*\.engine: it gave no reason"):
            backend.classify(CHUNK, VALID, ORIGINS)


@pytest.fixture
def engine(fake_tensorrt: Fake, small_model: ModelSpec, tmp_path: Path) -> Path:  # noqa: F811
    """A copy of an engine for four patches, to damage."""
    with choose_backend(config()).make(small_model) as backend:
        assert backend.artefact is not None
        for suffix in (".engine", ".json"):
            shutil.copy(backend.artefact.with_suffix(suffix), tmp_path / f"copy{suffix}")
    return tmp_path / "copy.engine"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tensorrt": "10.0.1"},
            r"was built by TensorRT 10\.0\.1 for Some GPU.*, and here is TensorRT 10\.9\.0\.34 on",
        ),
        ({"gpu": "Other GPU"}, r"for Other GPU, and here is TensorRT 10\.9\.0\.34 on Some GPU.*: delete it"),
        ({"benexp.bands": '["B02"]'}, r'was built for bands \["B02"\], but model small needs \["B02", '),
        ({"benexp.weights_hash": '"x"'}, r"was built for weights_hash \"x\", but model small needs"),
        ({"shape": [8, 10, 120, 120]}, r"does not take patches \[8, 10, 120, 120\]"),
    ],
)
def test_an_engine_for_something_else_is_refused(
    changed: dict[str, Any], message: str, engine: Path, small_model: ModelSpec
) -> None:
    file = engine.with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(BenexpError, match=message):
        TensorrtBackend(small_model, engine, batch_size=4).open()


def test_an_engine_for_another_batch_is_refused(engine: Path, small_model: ModelSpec) -> None:
    with pytest.raises(BenexpError, match=r"was built for shape \[4, 10, 120, 120\], but .* needs \[8, 10, 120, 120\]"):
        TensorrtBackend(small_model, engine, batch_size=8).open()


def test_a_damaged_engine_is_named_with_the_library_s_reason(engine: Path, small_model: ModelSpec) -> None:
    engine.write_bytes(b"nothing")
    with pytest.raises(BenexpError, match=r"copy\.engine cannot be loaded, delete it: Serialization assertion"):
        TensorrtBackend(small_model, engine, batch_size=4).open()


def test_an_engine_that_says_nothing_of_itself_is_refused(engine: Path, small_model: ModelSpec) -> None:
    engine.with_suffix(".json").unlink()
    with pytest.raises(BenexpError, match=r"copy\.engine has no copy\.json beside it"):
        TensorrtBackend(small_model, engine, batch_size=4).open()


def test_a_missing_library_is_named_before_anything_is_exported(
    small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(BenexpError) as caught:
        choose_backend(config(allow_fallback=True)).make(small_model)
    assert "pip install 'benexp[tensorrt]'" in str(caught.value)
    assert "https://pypi.nvidia.com" in str(caught.value)
    assert "backend.allow_fallback changes nothing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_gpu_is_named(
    fake_tensorrt: Fake,  # noqa: F811
    small_model: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeGpu, "is_there", lambda: False)
    with pytest.raises(BenexpError, match=r"runs on NVIDIA GPUs, and torch .* sees none: install torch for your GPU"):
        choose_backend(config()).make(small_model).open()


def test_an_old_library_is_refused(fake_tensorrt: Fake, small_model: ModelSpec) -> None:  # noqa: F811
    fake_tensorrt.__version__ = "8.6.1"
    with pytest.raises(BenexpError, match=r"TensorRT 8\.6\.1 is too old, it takes 10"):
        choose_backend(config()).make(small_model).open()


def test_an_engine_is_dropped_only_when_the_gpu_is_done_with_it(
    fake_tensorrt: Fake,  # noqa: F811
    engine: Path,
    small_model: ModelSpec,
) -> None:
    fake_tensorrt.calls.clear()
    with TensorrtBackend(small_model, engine, batch_size=4):
        assert FakeGpu.is_working
    gc.collect()
    # Context and engine of this backend alone: the exporter's were dropped before.
    assert fake_tensorrt.arguments("drop_context") == (False,)


@pytest.mark.parametrize("value", [0, -1, True, "4"])
def test_a_workspace_is_a_size(value: Any, small_model: ModelSpec) -> None:
    with pytest.raises(BenexpError, match=rf"backend\.workspace_gb={value}: takes a number of GiB over 0"):
        TensorrtBackend(small_model, workspace_gb=value)
