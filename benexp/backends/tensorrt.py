"""TensorRT itself, running an engine that exporters/tensorrt.py built on the same kind of GPU. Never run on one yet."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend, Needs
from benexp.backends.device_patches_torch import Uploader, Windows, cut_batches, model_dn, on_device
from benexp.backends.gpu_clock import GpuClock
from benexp.backends.patches import Part, StagedChunk, count
from benexp.core.errors import BenexpError
from benexp.core.tensorrt import DISTRIBUTIONS, WORKSPACE_GB, Gpu, TensorrtEngine, library


class TensorrtBackend(Backend):
    """A TensorRT engine on `cuda` (`cuda:1`, ...) at fp32, fp16, bf16 or int8, built for this GPU and one batch size.

    A chunk goes to the GPU once, as it is, while the one before is classified, and is cut there by torch.
    `workspace_gb` (GiB) is what the engine's kernels may use beside the model while it is built and run.
    Never run on a GPU yet.
    """

    needs: ClassVar[Needs] = "tensorrt"
    libraries: ClassVar[tuple[str, ...]] = DISTRIBUTIONS
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16", "int8")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)

    _engine: TensorrtEngine | None = None
    _gpu: Gpu
    _uploader: Uploader | None = None

    def __init__(self, *args: Any, device: str = "cuda", workspace_gb: float = WORKSPACE_GB, **keywords: Any) -> None:
        super().__init__(*args, device=device, **keywords)
        if isinstance(workspace_gb, bool) or not isinstance(workspace_gb, int | float) or not workspace_gb > 0:
            raise BenexpError(f"backend.workspace_gb={workspace_gb}: takes a number of GiB over 0")
        self.workspace_gb = workspace_gb
        self._about: dict[str, Any] = {}

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        library()

    def _load(self) -> None:
        self._gpu = Gpu(self.device)
        # An engine is built, too, for the GPU that is current.
        with self._gpu.current():
            super()._load()

    def _open(self) -> None:
        if self.artefact is None:
            raise RuntimeError("TensorrtBackend was given no engine")
        engine = TensorrtEngine(self.artefact, self._gpu)
        size = self.spec.patch_size
        wanted = {
            "benexp.bands": json.dumps(self.spec.bands),
            "benexp.weights_hash": json.dumps(self.spec.weights_hash),
            "shape": [self.batch_size, len(self.spec.bands), size, size],
        }
        for key, value in wanted.items():
            if engine.about[key] != value:
                raise BenexpError(
                    f"{self.artefact} was built for {key.removeprefix('benexp.')} {engine.about[key]}, "
                    f"but model {self.spec.name} needs {value}"
                )
        self._engine, self._about = engine, engine.about
        self._uploader = Uploader(self._gpu.device)

    def _upload(self, chunk: StagedChunk) -> Windows:
        return on_device(chunk, self._gpu.device, self._uploader)

    def _classify(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        import torch

        assert self._engine is not None
        if not count(parts):
            return np.empty((0, len(self.spec.classes)), np.float32)
        spec = self.spec

        def ready(found: Windows) -> torch.Tensor:
            return model_dn(found, spec.means, spec.patch_size)

        with torch.inference_mode(), self._gpu.current():
            answers = []
            clock = GpuClock(self._gpu.device) if self.on_batch else None
            for cut, real in cut_batches(self, parts, self._gpu.device, ready, channels_last=False):
                with clock.batch() if clock else self._timed():
                    patches = cut()
                    answers.append(self._of_shape(self._engine(patches), len(patches))[:real])
            answer: npt.NDArray[np.float32] = torch.cat(answers).cpu().numpy()
        if clock and self.on_batch:
            clock.report(self.on_batch)
        return answer

    def _is_out_of_memory(self, error: Exception) -> bool:
        import torch

        return isinstance(error, torch.OutOfMemoryError) or super()._is_out_of_memory(error)

    def _close(self) -> None:
        import torch

        if self._engine is not None:
            # What was begun before an error or an interruption still uses the engine's memory.
            with self._worded():
                self._gpu.synchronize()
        self._engine = self._uploader = None
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "engine": f"tensorrt {self._about.get('tensorrt', 'not loaded')}",
            "provider": self._about.get("gpu", "not loaded"),
            "workspace_gb": self.workspace_gb,
            "tf32": False,
        }
