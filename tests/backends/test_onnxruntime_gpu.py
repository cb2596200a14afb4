"""The GPU backends without a GPU: what they ask for, what they refuse, and the whole path on stand-in providers."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benexp.backends import onnxruntime_gpu
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.onnxruntime_gpu import OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend
from benexp.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from tests.models.builders import S2

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
CHUNK = varied_patches(S2, 1, 200, seed=4)[0].astype(np.uint16)
VALID = np.add.outer(np.arange(200), np.arange(200)) > 120
ORIGINS = np.array([(row, col) for row in (0, 40, 80) for col in (0, 60, 80)])

no_gpu_here = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="there is onnxruntime-gpu")
both = pytest.mark.parametrize("kind", [OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend])


class StandIn:
    """A CPU session that says it runs on other providers; `places` says where operators of a type went."""

    def __init__(self, session: Any, providers: list[str], places: dict[str, str] | None = None) -> None:
        self._session, self._providers, self._places = session, providers, places or {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = self._session.get_provider_graph_assignment_info()
        nodes = [node for part in parts for node in part.get_nodes()]
        return [
            SimpleNamespace(
                ep_name=self._places.get(node.op_type, self._providers[0]), get_nodes=lambda node=node: [node]
            )
            for node in nodes
        ]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A GPU by name only: providers are there and load, and the CPU does their work, in CPU memory."""
    state: dict[str, Any] = {"places": {}, "asked": [], "fails": {}}

    def session_of(self: OnnxRuntimeCudaBackend, model: Any, providers: list[str]) -> Any:
        state["asked"].append([(provider, dict(self._options(provider))) for provider in providers])
        for provider in providers:
            if message := state["fails"].get(provider):
                raise RuntimeError(message)
        if providers[0] == TENSORRT:
            folder = Path(self._options(TENSORRT)["trt_engine_cache_path"])
            if not (folder / "a.engine").exists():
                (folder / "a.engine").write_bytes(b"engine")
        session = OnnxRuntimeBackend._session_of(self, model, [CPU])
        return StandIn(session, [*providers] if CPU in providers else [*providers, CPU], state["places"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_session_of", session_of)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_find_libraries", lambda: None)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_missing", lambda provider: None)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_memory", lambda self: ("cpu", 0))
    monkeypatch.setattr(onnxruntime_gpu, "gpu_name", lambda index: f"GPU {index}")
    yield state


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What TensorRT's backend sets for the process is undone."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")


@pytest.fixture(scope="module")
def expected(small_model: ModelSpec, small_onnx: Path) -> np.ndarray:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=2) as backend:
        return backend.classify(CHUNK, VALID, ORIGINS)


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
    # The model, and the graph that cuts for it, which TensorRT does not take.
    asked = [[provider for provider, _ in providers] for providers in gpu["asked"]]
    assert asked == [list(kind._PROVIDERS), [CUDA, CPU]]
    assert all(options["device_id"] == "1" for providers in gpu["asked"] for _, options in providers if options)


def test_a_chunk_goes_up_once(
    gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[tuple[str, np.ndarray]] = []
    binding = type(onnxruntime.InferenceSession(small_onnx, providers=[CPU]).io_binding())
    bind = binding.bind_cpu_input
    monkeypatch.setattr(
        binding, "bind_cpu_input", lambda self, name, array: bound.append((name, array)) or bind(self, name, array)
    )
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2, batch_size=2) as backend:
        bound.clear()
        backend.classify(CHUNK, VALID, ORIGINS)
    assert [name for name, _ in bound] == ["chunk", "valid", "offsets"] + ["starts"] * 5
    assert bound[0][1].dtype == np.uint16
    assert np.shares_memory(bound[0][1], CHUNK)


def test_cuda_is_asked_for_honest_fp32_and_little_memory() -> None:
    backend = OnnxRuntimeCudaBackend(None, device="cuda:2")  # type: ignore[arg-type]
    assert backend._options(CUDA) == {
        "device_id": "2",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    assert backend._options(CPU) == {}


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

    monkeypatch.setattr(sys.modules[__name__], "StandIn", Older)
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
        ("libonnxruntime_providers_cuda.so: undefined symbol: Provider_GetHost", None),
    ],
)
def test_a_missing_library_is_named(complaint: str, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        assert path.endswith("libonnxruntime_providers_cuda.so")
        raise OSError(complaint)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    backend = OnnxRuntimeCudaBackend(None)  # type: ignore[arg-type]
    assert backend._missing(CUDA) == told
    assert backend._missing(CPU) is None


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
            if len(binding.get_outputs()[0].numpy()) > 2:
                raise RuntimeError("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9")

        return run_small if name == "run_with_iobinding" else run(self, name)

    monkeypatch.setattr(StandIn, "__getattr__", short_of_memory)
    with OnnxRuntimeCudaBackend(small_model, small_onnx, threads=2, batch_size=8) as backend:
        answer = backend.classify(CHUNK, VALID, ORIGINS)
    assert np.array_equal(answer, expected)
    assert backend.describe()["batch_size"] == 2


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
        "trt_bf16_enable": "0",
        "trt_max_workspace_size": str(3 * 2**29),
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache / "onnxruntime-tensorrt"),
    }
    assert tensorrt_options(small_model, small_onnx, precision="bf16")["trt_bf16_enable"] == "1"
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
    monkeypatch.setattr(onnxruntime_gpu, "_version", lambda name: "99")
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


def test_tensorrt_computes_fp32_as_fp32(gpu: dict[str, Any], small_model: ModelSpec, small_onnx: Path) -> None:
    with OnnxRuntimeTensorrtBackend(small_model, small_onnx, threads=2):
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize("size", [0, -1.0])
def test_a_workspace_has_a_size(size: float) -> None:
    with pytest.raises(BenexpError, match=rf"backend\.workspace_gb={size}: takes a size in GiB over 0"):
        OnnxRuntimeTensorrtBackend(None, workspace_gb=size)  # type: ignore[arg-type]


def test_a_gpu_is_asked_for_its_name_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends.cuda import gpu_name

    def refuse(name: str) -> Callable[..., int]:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert gpu_name(0) is None


@pytest.mark.parametrize(("answers", "name"), [((0, 0, 0), "GPU X"), ((100, 0, 0), None), ((0, 101, 0), None)])
def test_a_gpu_says_its_name(answers: tuple[int, int, int], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from benexp.backends.cuda import gpu_name

    def write(buffer: Any, size: int, device: Any) -> int:
        buffer.value = b"GPU X"
        return answers[2]

    driver = SimpleNamespace(
        cuInit=lambda flags: answers[0], cuDeviceGet=lambda at, index: answers[1], cuDeviceGetName=write
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert gpu_name(3) == name
