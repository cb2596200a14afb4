"""ONNX Runtime's GPU backends without a GPU: what they ask for, what they refuse, the whole path on stand-ins."""

# Fixtures come from fake_providers.py.
# ruff: noqa: F811

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp.backends.onnxruntime_gpu import OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from tests.backends import fake_providers
from tests.backends.fake_providers import (  # noqa: F401
    CHUNK,
    CPU,
    CUDA,
    ORIGINS,
    TENSORRT,
    VALID,
    StandIn,
    both,
    expected,
    gpu,
    no_gpu_here,
    onnxruntime,
)


@no_gpu_here
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            OnnxRuntimeCudaBackend,
            f"has no {CUDA}: pip uninstall -y onnxruntime && pip install 'benexp[gpu]'; or accept",
        ),
        (OnnxRuntimeTensorrtBackend, f"has no {TENSORRT}: pip uninstall -y onnxruntime && pip install 'benexp[gpu,ten"),
    ],
)
def test_without_the_gpu_package_it_is_refused(
    kind: type[OnnxRuntimeCudaBackend], message: str, small_model: ModelSpec, small_onnx: Path
) -> None:
    with pytest.raises(BenexpError) as error:
        kind(small_model, small_onnx).open()
    assert f"was asked for, but {CPU} is what would run: onnxruntime" in str(error.value)
    assert message in str(error.value)


@no_gpu_here
@both
def test_an_accepted_fallback_says_what_runs_and_answers_the_same(
    kind: type[OnnxRuntimeCudaBackend], small_model: ModelSpec, small_onnx: Path, expected: np.ndarray
) -> None:
    with kind(small_model, small_onnx, threads=2, batch_size=4, allow_fallback=True) as backend:
        answer, said = backend.classify(CHUNK, VALID, ORIGINS), backend.describe()
        decibels = np.where(VALID, CHUNK, np.float32(np.nan))
        as_floats = backend.classify(decibels, VALID, ORIGINS)
    assert np.array_equal(answer, expected)
    assert np.array_equal(as_floats, expected)
    assert said["provider"] == CPU
    assert said["device"] == "cpu"
    assert said["fallback"] == f"{CPU} in place of {kind._PROVIDERS[0]}"
    assert said["gpu"] is None
    assert said.get("engine_cache") is None


@both
def test_the_whole_path(
    kind: type[OnnxRuntimeCudaBackend],
    gpu: dict[str, Any],
    small_model: ModelSpec,
    small_onnx: Path,
    expected: np.ndarray,
) -> None:
    with kind(small_model, small_onnx, threads=2, batch_size=4, device="cuda:1") as backend:
        answer, said = backend.classify(CHUNK, VALID, ORIGINS), backend.describe()
    assert np.array_equal(answer, expected)
    assert (said["provider"], said["device"], said["gpu"]) == (kind._PROVIDERS[0], "cuda:1", "GPU 1")
    assert said["fallback"] is None
    # The model, and the graphs that make chunks ready and cut them for it, which TensorRT does not take.
    asked = [[provider for provider, _ in providers] for providers in gpu["asked"]]
    assert asked == [list(kind._PROVIDERS), [CUDA, CPU], [CUDA, CPU]]
    assert all(options["device_id"] == "1" for providers in gpu["asked"] for _, options in providers if options)


def test_a_chunk_goes_up_once_and_its_answers_come_down_once(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up: list[np.ndarray] = []
    down: list[list[int]] = []
    value = onnxruntime.OrtValue
    honest_up, honest_down = value.ortvalue_from_numpy, value.numpy

    def ortvalue_from_numpy(array: np.ndarray, *where: Any) -> Any:
        up.append(array)
        return honest_up(array, *where)

    monkeypatch.setattr(value, "ortvalue_from_numpy", staticmethod(ortvalue_from_numpy))
    monkeypatch.setattr(value, "numpy", lambda self: down.append(self.shape()) or honest_down(self))
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2, batch_size=2) as backend:
        up.clear()
        down.clear()
        backend.classify(CHUNK, VALID, ORIGINS)
    assert [array.dtype for array in up] == [np.uint16, bool, np.int64]
    assert np.shares_memory(up[0], CHUNK)
    # Nine patches in five batches of two.
    assert down == [[10, 19]]


def test_cuda_is_asked_for_honest_fp32_and_little_memory() -> None:
    backend = OnnxRuntimeCudaBackend(None, device="cuda:2")  # type: ignore[arg-type]
    options = {
        "device_id": "2",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "prefer_nhwc": "1",
    }
    assert backend._options(CUDA) == options | {"use_tf32": "0"}
    assert backend._options(CPU) == {}


def test_kernels_of_the_matrix_units_are_left_in_at_fp16_and_where_tf32_is_allowed() -> None:
    half = OnnxRuntimeCudaBackend(None, precision="fp16")  # type: ignore[arg-type]
    allowed = OnnxRuntimeCudaBackend(None, tf32=True, prefer_nhwc=False)  # type: ignore[arg-type]
    assert "use_tf32" not in half._options(CUDA)
    assert "use_tf32" not in allowed._options(CUDA)
    assert allowed._options(CUDA)["prefer_nhwc"] == "0"


@pytest.mark.parametrize("key", ["tf32", "prefer_nhwc"])
def test_switches_take_true_or_false(key: str) -> None:
    with pytest.raises(BenexpError, match=rf"backend\.{key}=1: takes true or false"):
        OnnxRuntimeCudaBackend(None, **{key: 1})  # type: ignore[arg-type]


def test_tf32_that_could_not_be_switched_off_is_on_record(
    gpu: dict[str, Any],
    small_model: ModelSpec,
    small_onnx: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for late in (False, True):
        monkeypatch.setattr("benexp.backends.cuda._off_in_time", not late)
        with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2) as backend:
            assert backend.describe()["tf32"] is late
        assert ("fp32 may be rounded to TF32" in caplog.text) == late


@both
@pytest.mark.parametrize("device", ["cpu", "cuda:x", "cuda:-1", "gpu"])
def test_other_devices_are_refused(kind: type[OnnxRuntimeCudaBackend], device: str) -> None:
    with pytest.raises(BenexpError, match=rf"backend\.device={device}: {kind.__name__} takes cuda, or cuda:1"):
        kind(None, device=device)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Specified provider")
@no_gpu_here
def test_a_provider_that_is_dropped_in_silence_is_noticed(
    small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime itself goes on without a provider that it cannot create.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_find_libraries", lambda: None)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_missing", lambda provider: None)
    with pytest.raises(BenexpError, match=f"{CUDA} was asked for, but {CPU} is what would run: it took none"):
        OnnxRuntimeCudaBackend(small_model, small_onnx).open()


def test_a_provider_that_raises_is_quoted(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    gpu["fails"] = {TENSORRT: "Please install TensorRT libraries\nas mentioned"}
    with pytest.raises(
        BenexpError,
        match=f"{TENSORRT} was asked for, but {CUDA} is what would run: "
        "RuntimeError: Please install TensorRT libraries as mentioned; or accept",
    ):
        OnnxRuntimeTensorrtBackend(small_model, small_onnx).open()
    with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, allow_fallback=True) as backend:
        said = backend.describe()
    assert (said["provider"], said["device"]) == (CUDA, "cuda")
    assert said["fallback"] == f"{CUDA} in place of {TENSORRT}"
    assert said["engine_cache"] is None


def test_where_no_provider_runs_the_model_the_first_reason_is_told(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path
) -> None:
    gpu["fails"] = {CUDA: "no kernel image", CPU: "no implementation"}
    with pytest.raises(
        BenexpError, match="OnnxRuntimeCudaBackend failed on model small: RuntimeError: no kernel image"
    ):
        OnnxRuntimeCudaBackend(small_model, small_onnx, allow_fallback=True).open()


def test_operators_that_went_elsewhere_count(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    gpu["places"] = {"Gemm": CUDA, "Sigmoid": CPU, "Reshape": CPU}
    with pytest.raises(
        BenexpError, match=rf"{TENSORRT} was asked for, but {CUDA} for 1 Gemm is what would run: it does"
    ):
        OnnxRuntimeTensorrtBackend(small_model, small_onnx).open()
    with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2, allow_fallback=True) as backend:
        assert backend.describe()["provider"] == TENSORRT
        assert backend.describe()["fallback"] == f"{CUDA} for 1 Gemm in place of {TENSORRT}"


def test_a_provider_that_took_nothing_but_trifles_does_not_run_the_model(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path
) -> None:
    gpu["places"] = {"Conv": CPU, "Gemm": CPU}
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2, allow_fallback=True) as backend:
        said = backend.describe()
    assert (said["provider"], said["device"]) == (CPU, "cpu")


def test_cutting_on_the_cpu_counts(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    gpu["places"] = {"Cast": CPU}
    with pytest.raises(BenexpError, match=f"{CUDA} was asked for, but {CPU} for 1 Cast is what would run"):
        OnnxRuntimeCudaBackend(small_model, small_onnx).open()


def test_trifles_on_the_cpu_do_not_count(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    gpu["places"] = {"Sigmoid": CPU, "Reshape": CPU, "Unsqueeze": CPU}
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2) as backend:
        assert backend.describe()["fallback"] is None


def test_an_older_onnx_runtime_is_believed_about_its_providers(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Older(StandIn):
        @property
        def get_provider_graph_assignment_info(self) -> Any:  # type: ignore[override]
            raise AttributeError

        def __getattr__(self, name: str) -> Any:
            if name == "get_provider_graph_assignment_info":
                raise AttributeError
            return super().__getattr__(name)

    monkeypatch.setattr(fake_providers, "StandIn", Older)
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2) as backend:
        assert backend.describe()["provider"] == CUDA
        assert backend.describe()["fallback"] is None


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            f"{CUDA} finds no libcublasLt.so.13: pip install 'benexp[gpu]'",
        ),
        (
            "libcuda.so.1: cannot open shared object file: No such file or directory",
            f"{CUDA} finds no libcuda.so.1: install NVIDIA's driver for your GPU",
        ),
        (
            # Not linked by the provider from 1.25 on, and needed all the same.
            "libcudnn.so.9: cannot open shared object file: No such file or directory",
            f"{CUDA} finds no libcudnn.so.9: pip install 'benexp[gpu]'",
        ),
        ("libonnxruntime_providers_cuda.so: undefined symbol: Provider_GetHost", None),
    ],
)
def test_a_missing_library_is_named(complaint: str, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        named = complaint.partition(":")[0]
        if path == named or path.endswith("libonnxruntime_providers_cuda.so") != (named == "libcudnn.so.9"):
            raise OSError(complaint)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    backend = OnnxRuntimeCudaBackend(None)  # type: ignore[arg-type]
    assert backend._missing(CUDA) == told
    assert backend._missing(CPU) is None


def test_cudnn_is_looked_for_where_the_provider_cannot_load_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        if path == "libcudnn.so.9":
            raise OSError("libcudnn.so.9: cannot open shared object file: No such file or directory")
        raise OSError(f"{path}: undefined symbol: Provider_GetHost")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert OnnxRuntimeCudaBackend._missing(CUDA) == f"{CUDA} finds no libcudnn.so.9: pip install 'benexp[gpu]'"


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    gpu: dict[str, Any],
    small_model: ModelSpec,
    small_onnx: Path,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = StandIn.__getattr__

    def short_of_memory(self: StandIn, name: str) -> Any:
        def run_small(binding: Any) -> None:
            run(self, name)(binding)
            batch, *rest = binding.get_outputs()[0].shape()
            if rest == [19] and batch > 2:
                raise RuntimeError("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9")

        return run_small if name == "run_with_iobinding" else run(self, name)

    monkeypatch.setattr(StandIn, "__getattr__", short_of_memory)
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2, batch_size=8) as backend:
        answer = backend.classify(CHUNK, VALID, ORIGINS)
    assert np.array_equal(answer, expected)
    assert backend.describe()["batch_size"] == 2


def test_warnings_about_devices_of_plugins_are_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("no libcublas"), raising=False)
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", levels.append)
    OnnxRuntimeCudaBackend._find_libraries()
    # Errors and worse.
    assert levels == [3]
