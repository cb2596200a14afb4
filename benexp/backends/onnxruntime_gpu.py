"""ONNX Runtime on NVIDIA GPUs: its CUDA provider, and TensorRT within it.

Written against the documented interfaces and tested without a GPU as far as that goes: with providers that are not
there, and with patches cut by the same graph on the CPU provider.
"""

import contextlib
import ctypes
import hashlib
import io
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Needs
from benexp.backends.cuda import gpu_name, keep_fp32, may_be_tf32
from benexp.backends.device_patches_onnx import OPERATORS, Cutter, OnDevice, upload
from benexp.backends.engine_cache import drop_damaged, engines_of, take_note
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.patches import Part, StagedChunk, count, split
from benexp.core.cache import cache_folder
from benexp.core.errors import BenexpError
from benexp.core.installed import RUNTIMES, installed_version
from benexp.core.tensorrt import DISTRIBUTIONS, WORKSPACE_GB
from benexp.models.published import sha256

log = logging.getLogger("benexp")

# Here, since a backend is named before anything loads CUDA's libraries.
keep_fp32()

_CUDA, _TENSORRT, _CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
FLOAT = 4
"""Bytes."""


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """ONNX Runtime's CUDA provider on `cuda` (`cuda:1`, ...), at fp32 or fp16.

    A chunk goes to the device once, as it is, while the one before is classified, and is cut there into the memory that
    the model reads from. `prefer_nhwc` has convolutions run on channels-last memory, as matrix units like it. `tf32`
    allows TF32 at fp32; it takes NVIDIA_TF32_OVERRIDE=1 in the environment, too.
    """

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    # Kernels and buffers are chosen by shape.
    pads = True

    _EXTRA: ClassVar[str] = "gpu"
    _PROVIDERS: ClassVar[tuple[str, ...]] = (_CUDA, _CPU)

    def __init__(
        self,
        *args: Any,
        device: str = "cuda",
        prefer_nhwc: bool = True,
        tf32: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(*args, device=device, **keywords)
        for key, value in (("prefer_nhwc", prefer_nhwc), ("tf32", tf32)):
            if not isinstance(value, bool):
                raise BenexpError(f"backend.{key}={value}: takes true or false")
        kind, _, index = device.partition(":")
        if kind != "cuda" or not (index or "0").isdecimal():
            raise BenexpError(f"backend.device={device}: {type(self).__name__} takes cuda, or cuda:1 for another GPU")
        self._device_asked = device
        self._index = int(index or 0)
        self.prefer_nhwc = prefer_nhwc
        self.tf32 = tf32
        self._cutter: Cutter | None = None

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        cls._find_libraries()
        super().check_available(allow_fallback=allow_fallback)

    def _open(self) -> None:
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise BenexpError(
                f"{type(self).__name__} needs {error.name}: pip install 'benexp[{self._EXTRA}]'"
            ) from error
        self.device = self._device_asked
        super()._open()
        if self._provider == _CPU:
            self.device = "cpu"
        elif self.precision == "fp32" and not self.tf32 and may_be_tf32():
            log.warning(
                "%s: fp32 may be rounded to TF32: CUDA's libraries were loaded before it could be switched off; "
                "set NVIDIA_TF32_OVERRIDE=0 in the environment",
                type(self).__name__,
            )

    @classmethod
    def _find_libraries(cls) -> None:
        """Load CUDA's libraries from NVIDIA's packages, where they came with pip and are on no search path."""
        try:
            import onnxruntime
        except ImportError:
            return
        if _CUDA in onnxruntime.get_available_providers():
            # From 1.25 on it warns at every session that the device is no plugin's.
            onnxruntime.set_default_logger_severity(3)
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
        # The provider opens cuDNN by itself, when its first convolution is made.
        for wanted in (str(library), "libcudnn.so.9"):
            try:
                ctypes.CDLL(wanted)
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
        options = {
            "device_id": str(self._index),
            # Deterministic, where trying all kernels out lets the fastest of the moment win, with other roundings.
            "cudnn_conv_algo_search": "HEURISTIC",
            # No more than is needed: doubling takes memory that a smaller batch could have used.
            "arena_extend_strategy": "kSameAsRequested",
            "prefer_nhwc": "1" if self.prefer_nhwc else "0",
        }
        if self.precision == "fp32" and not self.tf32:
            # It is on by default, and would still be called fp32. At other precisions the provider would drop every
            # kernel of the matrix units, whatever its type.
            options["use_tf32"] = "0"
        return options

    def _upload(self, chunk: StagedChunk) -> OnDevice:
        return upload(chunk.pixels, chunk.valid, self.spec.patch_size, self._memory())

    def _classify(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        import onnxruntime

        spec, memory, model = self.spec, self._memory(), self._session
        groups = list(split(parts, self.at_once))
        if not groups:
            return np.empty((0, len(spec.classes)), np.float32)
        full = self.at_once if self.pads else count(groups[0])
        shape = [len(spec.bands), spec.patch_size, spec.patch_size]
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        # The model reads the one and answers into the other, batch after batch; that is read when all is done.
        patches = make([full, *shape], np.float32, *memory)
        answers = make([len(groups) * full, len(spec.classes)], np.float32, *memory)
        for number, group in enumerate(groups):
            with self._timed():
                batch = full if self.pads else count(group)
                self._cut(group, patches, batch)
                running = model.io_binding()
                running.bind_input("patches", *memory, np.float32, [batch, *shape], patches.data_ptr())
                address = answers.data_ptr() + number * full * len(spec.classes) * FLOAT
                running.bind_output("probabilities", *memory, np.float32, [batch, len(spec.classes)], address)
                model.run_with_iobinding(running)
        return np.asarray(answers.numpy()[: count(parts)])

    def _cut(self, group: Sequence[Part], patches: Any, batch: int) -> None:
        """Put the patches of a batch into `patches`, and repeat the last one up to `batch`."""
        if self._cutter is None:
            # TensorRT takes no uint16: CUDA cuts for it.
            providers = (_CPU,) if self.device == "cpu" else (_CUDA, _CPU)
            self._cutter = Cutter(
                lambda graph: self._start(graph, providers, OPERATORS)[0],
                self.spec.means,
                self.spec.patch_size,
                self._memory(),
            )
        done = 0
        for number, (chunk, origins) in enumerate(group, start=1):
            taken = len(origins) if number < len(group) else batch - done
            address = patches.data_ptr() + done * len(self.spec.bands) * self.spec.patch_size**2 * FLOAT
            self._cutter.cut(self._on_device(chunk), origins, taken, address)
            done += taken

    def _memory(self) -> tuple[str, int]:
        """The device that holds the patches, in ONNX Runtime's words."""
        return ("cpu", 0) if self.device == "cpu" else ("cuda", self._index)

    def _close(self) -> None:
        super()._close()
        self._cutter = None

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "gpu": None if self.device == "cpu" else gpu_name(self._index),
            "tf32": self.device != "cpu" and self.precision == "fp32" and may_be_tf32(),
            "prefer_nhwc": self.prefer_nhwc,
        }


class OnnxRuntimeTensorrtBackend(OnnxRuntimeCudaBackend):
    """ONNX Runtime's TensorRT provider on `cuda` (`cuda:1`, ...), at fp32, fp16, bf16 or int8.

    An engine is built for one batch size, which takes minutes, and kept for the next time; `workspace_gb` is the most
    GPU memory (GiB) that TensorRT may take for scratch.

    At fp32, fp16 and int8 the engine computes in the types of the file. ONNX has no bf16 convolutions at the opset
    that is exported: there it is TensorRT that rounds the fp32 file where that is faster.
    """

    needs: ClassVar[Needs] = "tensorrt-onnx"
    libraries: ClassVar[tuple[str, ...]] = (*RUNTIMES, *DISTRIBUTIONS)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16", "int8")
    fixed_batch = True

    _EXTRA: ClassVar[str] = "gpu,tensorrt"
    _PROVIDERS: ClassVar[tuple[str, ...]] = (_TENSORRT, _CUDA, _CPU)
    # It would make integers of the biases of an int8 file, which TensorRT does not take: convolutions would leave it.
    _DISABLED: ClassVar[tuple[str, ...]] = ("WeightBiasQuantization",)

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
        if self.artefact is not None:
            self._engines = cache_folder() / "onnxruntime-tensorrt" / self._key(self.artefact)
            self._engines.mkdir(parents=True, exist_ok=True)
            _timings().mkdir(exist_ok=True)
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
            "trt_bf16_enable": str(self.precision == "bf16"),
            "device_id": str(self._index),
            "trt_max_workspace_size": str(int(self.workspace_gb * 2**30)),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(self._engines),
            "trt_timing_cache_enable": "True",
            # Of use to every model: timings are of a TensorRT's kernels on a GPU, after which the file is named.
            "trt_timing_cache_path": str(_timings()),
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


def _timings() -> Path:
    """The folder of TensorRT's measurements of kernels, which hold for one version of it."""
    version = next(filter(None, map(installed_version, DISTRIBUTIONS)), "unknown")
    return cache_folder() / "onnxruntime-tensorrt" / f"timings-{version}"
