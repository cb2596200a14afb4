"""TensorRT within ONNX Runtime, without a GPU: what it is asked for, and the engines that it keeps."""

# Fixtures come from fake_providers.py.
# ruff: noqa: F811

import os
import time
from pathlib import Path
from typing import Any

import pytest

from benexp.backends import cuda, onnxruntime_gpu
from benexp.backends.onnxruntime_gpu import OnnxRuntimeTensorrtBackend
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from tests.backends.fake_providers import (  # noqa: F401
    TENSORRT,
    gpu,
    onnxruntime,
)


def tensorrt_options(spec: ModelSpec, artefact: Path, **keywords: Any) -> dict[str, str]:
    backend = OnnxRuntimeTensorrtBackend(spec, artefact, **keywords)
    backend._engines = Path("engines") / backend._key(artefact)
    return dict(backend._options(TENSORRT))


def test_tensorrt_is_asked_for_one_shape_and_the_types_of_the_file(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, cache: Path
) -> None:
    options = tensorrt_options(small_model, small_onnx, batch_size=16, workspace_gb=1.5, device="cuda:1")
    shapes = {options.pop(f"trt_profile_{bound}_shapes") for bound in ("min", "opt", "max")}
    assert shapes == {"patches:16x10x120x120"}
    assert options.pop("trt_engine_cache_path").startswith("engines/small-fp32-16-")
    assert options == {
        "device_id": "1",
        "trt_bf16_enable": "False",
        "trt_max_workspace_size": str(3 * 2**29),
        "trt_engine_cache_enable": "True",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache / "onnxruntime-tensorrt" / "timings-unknown"),
    }
    assert tensorrt_options(small_model, small_onnx, precision="bf16")["trt_bf16_enable"] == "True"
    assert OnnxRuntimeTensorrtBackend.artefact_precision("bf16") == "fp32"
    assert OnnxRuntimeTensorrtBackend.artefact_precision("int8") == "int8"


def test_engines_are_kept_apart_by_all_that_they_depend_on(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(artefact: Path = small_onnx, **keywords: Any) -> str:
        return tensorrt_options(small_model, artefact, **keywords)["trt_engine_cache_path"]

    other = tmp_path / "other.onnx"
    other.write_bytes(small_onnx.read_bytes() + b"\0")
    folders = [
        folder(),
        folder(other),
        folder(batch_size=64),
        folder(precision="fp16"),
        folder(workspace_gb=8),
        folder(device="cuda:1"),
    ]
    monkeypatch.setattr(onnxruntime_gpu, "installed_version", lambda name: "99")
    folders.append(folder())
    assert len(set(folders)) == len(folders)
    assert folder() == folders[-1]


def test_an_engine_is_built_once(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    def opened(**keywords: Any) -> str:
        with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, workspace_gb=7, **keywords) as backend:
            return backend.describe()["engine_cache"]

    assert [opened(), opened(), opened(batch_size=3)] == ["built", "reused", "built"]


def test_an_engine_that_is_rebuilt_while_it_runs_shows(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path
) -> None:
    for _ in range(2):
        with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, workspace_gb=6) as backend:
            before = backend.describe()["engine_cache"]
            file = next(backend._engines.glob("*.engine"))  # type: ignore[union-attr]
            os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns + 10**9))
            after = backend.describe()["engine_cache"]
    assert (before, after) == ("reused", "built")


def test_a_damaged_engine_is_built_anew(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said, file = [], Path()
    for damaged in (False, True, False):
        if damaged:
            file.write_bytes(b"enginf")
        with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, workspace_gb=5) as backend:
            said.append(backend.describe()["engine_cache"])
            file = next(backend._engines.glob("*.engine"))  # type: ignore[union-attr]
            assert file.read_bytes() == b"engine"
    assert said == ["built", "built", "reused"]
    assert caplog.messages == [f"{file} is damaged, or was not finished: building it anew"]


@pytest.mark.parametrize(
    ("set_to", "loaded", "may_be"), [(None, "", False), ("1", "", True), (None, "libcublas", True)]
)
def test_tf32_is_switched_off_before_cuda_loads(
    set_to: str | None, loaded: str, may_be: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cuda.TF32, raising=False)
    if set_to:
        monkeypatch.setenv(cuda.TF32, set_to)
    monkeypatch.setattr(cuda, "_off_in_time", None)
    monkeypatch.setattr(cuda.Path, "is_file", lambda path: True)
    monkeypatch.setattr(cuda.Path, "read_text", lambda path: f"7f00-7f01 r-xp /usr/lib/{loaded}.so.13")
    cuda.keep_fp32()
    assert os.environ[cuda.TF32] == (set_to or "0")
    assert cuda.may_be_tf32() is may_be


def test_timings_of_another_tensorrt_are_left_alone(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_gpu, "installed_version", lambda name: "10.9.0")
    assert tensorrt_options(small_model, small_onnx)["trt_timing_cache_path"].endswith("/timings-10.9.0")


def test_biases_stay_what_tensorrt_takes(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled = []
    honest = onnxruntime.InferenceSession

    def session(*arguments: Any, disabled_optimizers: Any, **more: Any) -> Any:
        disabled.append(disabled_optimizers)
        return honest(*arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, precision="fp32"):
        pass
    assert disabled[0] == {"WeightBiasQuantization"}


@pytest.mark.parametrize("size", [0, -1.0])
def test_a_workspace_has_a_size(size: float) -> None:
    with pytest.raises(BenexpError, match=rf"backend\.workspace_gb={size}: takes a size in GiB over 0"):
        OnnxRuntimeTensorrtBackend(None, workspace_gb=size)  # type: ignore[arg-type]


def test_an_engine_that_has_no_room_to_be_built_halves_the_batch(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path
) -> None:
    backend = OnnxRuntimeTensorrtBackend(small_model, small_onnx)
    said = "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP failed to create engine from network for fused node: 1"
    # Asked twice of one failure.
    assert [backend._is_out_of_memory(RuntimeError(said)) for _ in range(2)] == [True, True]
    backend.batch_size //= 2
    # Half the batch did not help: it is not memory.
    assert not backend._is_out_of_memory(RuntimeError(said))
    assert not backend._is_out_of_memory(RuntimeError("TensorRT EP failed to create context."))
