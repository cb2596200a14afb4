"""PyTorch, running the checkpoint as it is."""

import os
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend, Needs
from benexp.backends.cuda import TF32
from benexp.backends.device_patches_torch import Uploader, Windows, cut_batches, normalised, on_device
from benexp.backends.gpu_clock import GpuClock
from benexp.backends.patches import Part, StagedChunk, count
from benexp.core import cores
from benexp.core.errors import BenexpError


class TorchBackend(Backend):
    """PyTorch on `cpu` or `cuda` (`cuda:1`, ...), in channels-last memory, at fp32, bf16 or fp16.

    A chunk goes to the device once, as it is, while the one before is classified; there it is normalised once and cut.
    `compile` makes torch.compile's kernels of the network, replayed as CUDA graphs on a GPU; it takes a minute at first
    and needs a C++ compiler. `cudnn_benchmark` has cuDNN try its kernels out, of which the fastest of the moment wins,
    with roundings of its own. `tf32` allows TF32 at fp32. `threads` holds for torch in the whole process while the
    backend is open.
    """

    needs: ClassVar[Needs] = "checkpoint"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    _model: Any = None
    _network: Any = None
    _graphs_of: int | None = None
    """The thread that compiled with CUDA graphs, which no other thread can replay; None without them."""
    _uploader: Uploader | None = None
    _threads_before: int | None = None

    def __init__(
        self, *args: Any, compile: bool = False, cudnn_benchmark: bool = False, tf32: bool = False, **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        for key, value in (("compile", compile), ("cudnn_benchmark", cudnn_benchmark), ("tf32", tf32)):
            if not isinstance(value, bool):
                raise BenexpError(f"backend.{key}={value}: takes true or false")
        self.compile = compile
        self.cudnn_benchmark = cudnn_benchmark
        self.tf32 = tf32
        # Compiled kernels and CUDA graphs are made for one shape.
        self.pads = self.fixed_batch = compile

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        try:
            import torch  # noqa: F401

            import benexp.models.classifier  # noqa: F401
        except ImportError as error:
            raise BenexpError(f"backend=torch needs {error.name}: pip install 'benexp[torch]'") from error

    def _open(self) -> None:
        import torch

        from benexp.models.classifier import Answering, load_classifier

        if self._kind == "cuda" and not torch.cuda.is_available():
            self._fell_back(
                self.device, "cpu", f"torch {torch.__version__} sees no CUDA device: install torch for your GPU's CUDA"
            )
            self.device = "cpu"
        if self._kind == "cpu":
            self._threads_before = torch.get_num_threads()
            torch.set_num_threads(self.threads or cores.available())
        else:
            self._uploader = Uploader(torch.device(self.device))
        classifier: Any = load_classifier(self.spec, self.precision)
        self._dtype = classifier.dtype
        network: Any = Answering(classifier.network)
        self._network = network.to(device=self.device, memory_format=torch.channels_last)
        # CUDA graphs are kept by thread, and assert where another than the main one replays them.
        graphs = self._kind == "cuda" and threading.current_thread() is threading.main_thread()
        self._model = self._compiled(graphs) if self.compile else self._network

    def _compiled(self, graphs: bool) -> Any:
        """The network with kernels of its own, and with CUDA graphs for the thread that calls this, or for all."""
        import torch

        # Rather an error than going on without compiled kernels. The name holds from torch 2.5 on.
        torch._dynamo.config.fail_on_cache_limit_hit = True
        self._graphs_of = threading.get_ident() if graphs else None
        return torch.compile(self._network, mode="reduce-overhead" if graphs else "default", dynamic=False)

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]

    def _upload(self, chunk: StagedChunk) -> Windows:
        import torch

        return on_device(chunk, torch.device(self.device), self._uploader)

    def _classify(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        import torch

        if not count(parts):
            return np.empty((0, len(self.spec.classes)), np.float32)
        if self._graphs_of not in (None, threading.get_ident()):
            # Once, and without graphs: then every thread can run it.
            torch.compiler.reset()
            self._model = self._compiled(graphs=False)
        spec = self.spec

        def ready(found: Windows) -> torch.Tensor:
            return normalised(found, spec.means, spec.stds, self._dtype, spec.patch_size)

        # torch's convolutions on a GPU round to TF32 unless they are kept from it, and would still be called fp32.
        # `flags` itself switches cuDNN off unless asked not to.
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=self.cudnn_benchmark, allow_tf32=self.tf32)
        with torch.inference_mode(), flags:
            answers = []
            clock = GpuClock(self.device) if self.on_batch and self._kind == "cuda" else None
            for cut, real in cut_batches(self, parts, torch.device(self.device), ready, channels_last=True):
                with clock.batch() if clock else self._timed():
                    patches = cut()
                    # A copy, since CUDA graphs answer in the same memory every time; read when all is under way.
                    answers.append(self._of_shape(self._model(patches), len(patches))[:real].clone())
            answer: npt.NDArray[np.float32] = torch.cat(answers).cpu().numpy()
        if clock and self.on_batch:
            clock.report(self.on_batch)
        return answer

    def _is_out_of_memory(self, error: Exception) -> bool:
        import torch

        return isinstance(error, torch.OutOfMemoryError) or super()._is_out_of_memory(error)

    def _close(self) -> None:
        import torch

        if self._model is not None and self.compile:
            # Else what was compiled stays, with its memory, and counts towards the limit of recompilations.
            torch.compiler.reset()
        self._model = self._network = self._uploader = self._graphs_of = None
        if self._threads_before is not None:
            torch.set_num_threads(self._threads_before)
            self._threads_before = None
        if self._kind == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        import torch

        on_gpu = self._kind == "cuda"
        return super().describe() | {
            "engine": f"torch {torch.__version__}",
            "provider": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "threads": self.threads or cores.available(),
            "compile": self.compile,
            "cudnn_benchmark": self.cudnn_benchmark,
            "tf32": on_gpu and self.precision == "fp32" and self.tf32 and os.environ.get(TF32) != "0",
        }
