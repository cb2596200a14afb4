"""PyTorch, running the checkpoint as it is."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp import cores
from benexp.backends.base import Backend, Needs
from benexp.errors import BenexpError

if TYPE_CHECKING:
    from benexp.models.classifier import Classifier


class TorchBackend(Backend):
    """Eager PyTorch on `cpu` or `cuda` (`cuda:1`, ...), in channels-last memory; fp32, or bf16 through autocast.

    `threads` holds for torch in the whole process while the backend is open.
    """

    needs: ClassVar[Needs] = "checkpoint"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    _classifier: "Classifier"
    _threads_before: int

    def _open(self) -> None:
        try:
            import torch

            from benexp.models.classifier import load_classifier
        except ImportError as error:
            raise BenexpError(f"backend=torch needs {error.name}: pip install 'benexp[torch]'") from error
        kind = self.device.partition(":")[0]
        if kind == "cuda" and not torch.cuda.is_available():
            raise BenexpError(f"backend.device={self.device}: torch {torch.__version__} sees no CUDA device here")
        classifier = load_classifier(self.spec)
        self._classifier = classifier.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads or cores.available())

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import torch

        batch = torch.from_numpy(patches).to(self.device, memory_format=torch.channels_last)
        kind = self.device.partition(":")[0]
        reduced: AbstractContextManager[Any] = (
            torch.autocast(kind, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        )
        # torch's convolutions on a GPU round to TF32 unless told otherwise, and would still be called fp32.
        exact = torch.backends.cudnn.flags(allow_tf32=False) if kind == "cuda" else nullcontext()
        with torch.inference_mode(), reduced, exact:
            answer: npt.NDArray[np.float32] = self._classifier(batch).cpu().numpy()
        return answer

    def _close(self) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        del self._classifier
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        import torch

        device = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else "cpu"
        return super().describe() | {
            "engine": f"torch {torch.__version__}",
            "provider": device,
            "threads": self.threads or cores.available(),
        }
