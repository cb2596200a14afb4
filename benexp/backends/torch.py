"""PyTorch, running the checkpoint as it is."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend, Needs
from benexp.backends.device_patches_torch import cut_batches
from benexp.backends.gpu_clock import GpuClock
from benexp.core import cores
from benexp.core.errors import BenexpError


class TorchBackend(Backend):
    """PyTorch on `cpu` or `cuda` (`cuda:1`, ...), in channels-last memory, at fp32, bf16 or fp16.

    A chunk goes to the device once, as it is, and is cut there. `compile` makes torch.compile's kernels of the network,
    replayed as CUDA graphs on a GPU; it takes a minute at first and needs a C++ compiler. `threads` holds for torch in
    the whole process while the backend is open.
    """

    needs: ClassVar[Needs] = "checkpoint"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    _model: Any = None
    _threads_before: int | None = None

    def __init__(self, *args: Any, compile: bool = False, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if not isinstance(compile, bool):
            raise BenexpError(f"backend.compile={compile}: takes true or false")
        self.compile = compile
        # Compiled kernels and CUDA graphs are made for one shape.
        self.pads = compile

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        try:
            import torch  # noqa: F401

            import benexp.models.classifier  # noqa: F401
        except ImportError as error:
            raise BenexpError(f"backend=torch needs {error.name}: pip install 'benexp[torch]'") from error

    def _open(self) -> None:
        import torch

        from benexp.models.classifier import load_classifier

        if self._kind == "cuda" and not torch.cuda.is_available():
            self._fell_back(
                self.device, "cpu", f"torch {torch.__version__} sees no CUDA device: install torch for your GPU's CUDA"
            )
            self.device = "cpu"
        if self._kind == "cpu":
            self._threads_before = torch.get_num_threads()
            torch.set_num_threads(self.threads or cores.available())
        model: Any = load_classifier(self.spec, self.precision)
        model = model.to(device=self.device, memory_format=torch.channels_last)
        if self.compile:
            # Rather an error than going on without compiled kernels.
            torch._dynamo.config.fail_on_recompile_limit_hit = True
            model = torch.compile(model, mode="reduce-overhead" if self._kind == "cuda" else "default", dynamic=False)
        self._model = model

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]

    def _classify(
        self, chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        import torch

        if not len(origins):
            return np.empty((0, len(self.spec.classes)), np.float32)
        # torch's convolutions on a GPU round to TF32 unless told otherwise, and would still be called fp32. `flags`
        # itself switches cuDNN off unless told otherwise.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batches = cut_batches(self, chunk, valid, origins, self.device, torch.channels_last)
            answers = []
            clock = GpuClock(self.device) if self.on_batch and self._kind == "cuda" else None
            for patches, count in batches:
                with clock.batch() if clock else self._timed():
                    # A copy, since CUDA graphs answer in the same memory every time; read when all is under way.
                    answers.append(self._of_shape(self._model(patches), len(patches))[:count].clone())
            answer: npt.NDArray[np.float32] = torch.cat(answers).cpu().numpy()
        if clock and self.on_batch:
            clock.tell(self.on_batch)
        return answer

    def _is_out_of_memory(self, error: Exception) -> bool:
        import torch

        return isinstance(error, torch.OutOfMemoryError) or super()._is_out_of_memory(error)

    def _close(self) -> None:
        import torch

        if self._model is not None and self.compile:
            # Else what was compiled stays, with its memory, and counts towards the limit of recompilations.
            torch.compiler.reset()
        self._model = None
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
        }
