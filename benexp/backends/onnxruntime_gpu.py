"""ONNX Runtime on NVIDIA GPUs: its CUDA provider, and TensorRT within it.

Written against the documented interfaces and tested without a GPU as far as that goes: with providers that are not
there, and with patches cut by the same graph on the CPU provider.
"""

import contextlib
import ctypes
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Needs
from benexp.backends.cuda import gpu_name
from benexp.backends.device_patches_onnx import OPERATORS, cutting_graph, starts, whole_chunk
from benexp.backends.engine_cache import drop_damaged, engines_of, take_note
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.core.cache import cache_folder
from benexp.core.errors import BenexpError
from benexp.core.installed import RUNTIMES, installed_version
from benexp.core.tensorrt import DISTRIBUTIONS, WORKSPACE_GB
from benexp.models.published import sha256

_CUDA, _TENSORRT, _CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """ONNX Runtime's CUDA provider on `cuda` (`cuda:1`, ...), at fp32 or fp16.

    A chunk goes to the device once, as it is, and is cut there into the memory that the model reads from.
    """

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    # Kernels and buffers are chosen by shape.
    pads = True

    _EXTRA: ClassVar[str] = "gpu"
    _PROVIDERS: ClassVar[tuple[str, ...]] = (_CUDA, _CPU)

    def __init__(self, *args: Any, device: str = "cuda", **keywords: Any) -> None:
        super().__init__(*args, device=device, **keywords)
        kind, _, index = device.partition(":")
        if kind != "cuda" or not (index or "0").isdecimal():
            raise BenexpError(f"backend.device={device}: {type(self).__name__} takes cuda, or cuda:1 for another GPU")
        self._device_asked = device
        self._index = int(index or 0)
        self._cutters: dict[np.dtype[Any], Any] = {}

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        cls._find_libraries()
        super().check_available(allow_fallback=allow_fallback)

    def _open(self) -> None:
        self.device = self._device_asked
        super()._open()
        if self._provider == _CPU:
            self.device = "cpu"

    @classmethod
    def _find_libraries(cls) -> None:
        """Load CUDA's libraries from NVIDIA's packages, where they came with pip and are on no search path."""
        try:
            import onnxruntime
        except ImportError:
            return
        if _CUDA in onnxruntime.get_available_providers():
            # It prints what it does not find; `_missing` says it better.
            with contextlib.redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls()

    @classmethod
    def _missing(cls, provider: str) -> str | None:
        import onnxruntime

        if provider == _CPU:
            return None
        name = {_CUDA: "cuda", _TENSORRT: "tensorrt"}[provider]
        library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            # Any other complaint is about what ONNX Runtime itself brings to it.
            if lacks := re.match(r"(\S+): cannot open shared object file", str(error)):
                remedy = f"pip install 'benexp[{cls._EXTRA}]'"
                if lacks[1] == "libcuda.so.1":
                    remedy = "install NVIDIA's driver for your GPU"
                return f"{provider} finds no {lacks[1]}: {remedy}"
        return None

    def _options(self, provider: str) -> Mapping[str, str]:
        if provider != _CUDA:
            return {}
        return {
            "device_id": str(self._index),
            # It is on by default, and would still be called fp32.
            "use_tf32": "0",
            # Deterministic, where trying all kernels out lets the fastest of the moment win, with other roundings.
            "cudnn_conv_algo_search": "HEURISTIC",
            # No more than is needed: doubling takes memory that a smaller batch could have used.
            "arena_extend_strategy": "kSameAsRequested",
        }

    def _classify(
        self, chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        answers = np.empty((len(origins), len(self.spec.classes)), np.float32)
        if not len(origins):
            return answers
        inputs = whole_chunk(chunk, valid, self.spec.patch_size)
        cutter, model = self._cutter(inputs["chunk"].dtype), self._session
        cutting, running = cutter.io_binding(), model.io_binding()
        # Binding is what uploads: into the session's own memory, which goes with it when memory runs out.
        for name, array in inputs.items():
            cutting.bind_cpu_input(name, array)
        cutting.bind_output("patches", *self._memory())
        running.bind_output("probabilities")
        for start in range(0, len(origins), self.batch_size):
            group = origins[start : start + self.batch_size]
            size = self.batch_size if self.pads else len(group)
            with self._timed():
                cutting.bind_cpu_input("starts", starts(group, chunk.shape[2], size))
                cutter.run_with_iobinding(cutting)
                running.bind_ortvalue_input("patches", cutting.get_outputs()[0])
                model.run_with_iobinding(running)
                answer = self._of_shape(running.get_outputs()[0].numpy(), size)
                answers[start : start + len(group)] = answer[: len(group)]
        return answers

    def _memory(self) -> tuple[str, int]:
        """Where patches lie, in ONNX Runtime's words."""
        return ("cpu", 0) if self.device == "cpu" else ("cuda", self._index)

    def _cutter(self, dtype: np.dtype[Any]) -> Any:
        """The session that cuts chunks of `dtype`, on the device that the model runs on."""
        if dtype not in self._cutters:
            # TensorRT takes no uint16: CUDA cuts for it.
            providers = (_CPU,) if self.device == "cpu" else (_CUDA, _CPU)
            try:
                graph = cutting_graph(dtype, self.spec.means)
            except ImportError as error:
                raise BenexpError(
                    f"{type(self).__name__} needs {error.name}: pip install 'benexp[{self._EXTRA}]'"
                ) from error
            self._cutters[dtype], _ = self._start(graph, providers, OPERATORS)
        return self._cutters[dtype]

    def _close(self) -> None:
        super()._close()
        self._cutters.clear()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"gpu": None if self.device == "cpu" else gpu_name(self._index)}


class OnnxRuntimeTensorrtBackend(OnnxRuntimeCudaBackend):
    """ONNX Runtime's TensorRT provider on `cuda` (`cuda:1`, ...), at fp32, fp16, bf16 or int8.

    An engine is built for one batch size, which takes minutes, and kept for the next time; `workspace_gb` is the most
    GPU memory (GiB) that TensorRT may take for scratch. TF32 is switched off for the whole process.

    At fp32, fp16 and int8 the engine computes in the types of the file. ONNX has no bf16 convolutions at the opset
    that is exported: there it is TensorRT that rounds the fp32 file where that is faster.
    """

    needs: ClassVar[Needs] = "tensorrt-onnx"
    libraries: ClassVar[tuple[str, ...]] = (*RUNTIMES, *DISTRIBUTIONS)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16", "int8")
    fixed_batch: ClassVar[bool] = True

    _EXTRA: ClassVar[str] = "gpu,tensorrt"
    _PROVIDERS: ClassVar[tuple[str, ...]] = (_TENSORRT, _CUDA, _CPU)

    _engines: Path | None = None
    _engines_before: Mapping[str, int] = {}

    def __init__(self, *args: Any, workspace_gb: float = WORKSPACE_GB, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if not workspace_gb > 0:
            raise BenexpError(f"backend.workspace_gb={workspace_gb}: takes a size in GiB over 0")
        self.workspace_gb = workspace_gb

    @classmethod
    def artefact_precision(cls, precision: str) -> str:
        return "fp32" if precision == "bf16" else precision

    def _open(self) -> None:
        # TensorRT rounds fp32 to TF32 otherwise, and the provider has no option for it. CUDA reads it once a process:
        # put back afterwards it would change nothing.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        if self.artefact is not None:
            self._engines = cache_folder() / "onnxruntime-tensorrt" / self._key(self.artefact)
            self._engines.mkdir(parents=True, exist_ok=True)
            drop_damaged(self._engines)
            self._engines_before = engines_of(self._engines)
        super()._open()
        # With the one shape that is asked for, engines are built when the session is made.
        if self._engines is not None and engines_of(self._engines) != self._engines_before:
            take_note(self._engines, self._engines_before)

    @classmethod
    def _find_libraries(cls) -> None:
        super()._find_libraries()
        # Importing it loads the libraries in its package; they may lie on the search path instead; `_missing` tells.
        with contextlib.suppress(ImportError, OSError):
            import tensorrt  # noqa: F401

    def _options(self, provider: str) -> Mapping[str, str]:
        if provider != _TENSORRT:
            return super()._options(provider)
        size = self.spec.patch_size
        shapes = f"patches:{self.batch_size}x{len(self.spec.bands)}x{size}x{size}"
        # Neither trt_fp16_enable nor trt_int8_enable: without them the network is strongly typed, computing as the file
        # says, which was checked; with them normalisation could be rounded to fp16, where DN overflow.
        return {
            "trt_bf16_enable": "1" if self.precision == "bf16" else "0",
            "device_id": str(self._index),
            "trt_max_workspace_size": str(int(self.workspace_gb * 2**30)),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(self._engines),
            "trt_timing_cache_enable": "1",
            # Of use to every model: timings are of kernels on a GPU.
            "trt_timing_cache_path": str(cache_folder() / "onnxruntime-tensorrt"),
            "trt_profile_min_shapes": shapes,
            "trt_profile_opt_shapes": shapes,
            "trt_profile_max_shapes": shapes,
        }

    def _key(self, artefact: Path) -> str:
        """Stands for all that an engine was built from and for."""
        parts = {
            "model": sha256(artefact),
            "shape": [self.batch_size, len(self.spec.bands), self.spec.patch_size],
            "precision": self.precision,
            "workspace_gb": self.workspace_gb,
            "gpu": gpu_name(self._index),
            "versions": {name: installed_version(name) for name in ("onnxruntime-gpu", *DISTRIBUTIONS)},
        }
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w.]+", "_", self.spec.name)
        return f"{name}-{self.precision}-{self.batch_size}-{digest}"

    def describe(self) -> dict[str, Any]:
        cache = None
        if self._provider == _TENSORRT and self._engines is not None:
            cache = "reused" if engines_of(self._engines) == self._engines_before else "built"
        return super().describe() | {"workspace_gb": self.workspace_gb, "engine_cache": cache}
