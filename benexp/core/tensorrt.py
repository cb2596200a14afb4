"""TensorRT: the library, a GPU, and engine files, for the exporter that builds engines and the backend that runs them.

Written against the documented API and the signatures of TensorRT 10 and 11, and tested on a stand-in that records
calls: its libraries come from NVIDIA's own index, which was out of reach. Never run on a GPU yet.
"""

import functools
import importlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.core.errors import BenexpError, OutOfMemoryError, one_line

if TYPE_CHECKING:
    import torch

log = logging.getLogger("benexp")

WORKSPACE_GB = 4.0
"""GPU memory (GiB) that TensorRT may take for scratch while it builds and runs, by default."""
DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13")
"""The distributions of the module: the first depends on the second."""
NO_FALLBACK = "backend.allow_fallback changes nothing here, since nothing else runs a TensorRT engine"


def library() -> Any:
    """The tensorrt module. Raises BenexpError where it, torch or a GPU is missing."""
    try:
        found = importlib.import_module("tensorrt")
    # Its wheels find the libraries behind the module in their own ways.
    except (ImportError, OSError) as error:
        raise BenexpError(
            f"TensorRT cannot be loaded ({one_line(error)}): pip install 'benexp[tensorrt]', whose wheels come from "
            f"NVIDIA's own index, https://pypi.nvidia.com; {NO_FALLBACK}"
        ) from error
    if int(found.__version__.partition(".")[0]) < 10:
        raise BenexpError(f"TensorRT {found.__version__} is too old, it takes 10: pip install -U 'benexp[tensorrt]'")
    try:
        import torch
    except ImportError as error:
        raise BenexpError("TensorRT takes patches that torch holds on the GPU: pip install 'benexp[torch]'") from error
    if not Gpu.is_there():
        raise BenexpError(
            f"TensorRT runs on NVIDIA GPUs, and torch {torch.__version__} sees none: install torch for your GPU's "
            f"CUDA, or choose another backend; {NO_FALLBACK}"
        )
    return found


def gpu_name(device: "torch.device | None" = None) -> str:
    """The GPU that an engine is built for, by default torch's current one: `<name>, compute capability <x.y>`."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"


class Gpu:
    """A GPU and a stream on it, both torch's, which owns the memory that TensorRT reads patches from and answers in."""

    def __init__(self, device: str = "cuda") -> None:
        import torch

        self.device = torch.device(device)
        self.name = gpu_name(self.device)
        # Not the default stream, on which TensorRT waits for everything else at every batch.
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    @staticmethod
    def is_there() -> bool:
        import torch

        return torch.cuda.is_available()

    @property
    def stream(self) -> int:
        return int(self._stream.cuda_stream)

    def synchronize(self) -> None:
        """Wait until all that was put into the stream is done."""
        self._stream.synchronize()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the GPU that engines are built and loaded on, and its stream the one that torch works in."""
        import torch

        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield


@functools.cache
def logger() -> Any:
    """The one logger that TensorRT takes in a process: messages go to benexp's log, errors into `errors`, too."""
    trt = importlib.import_module("tensorrt")
    severities = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                self.errors.append(" ".join(message.split()))
            log.debug("TensorRT: %s", message)

    return Logger()


def failed(what: str) -> BenexpError:
    """The error to raise where a call answered None or False: TensorRT gives its reasons to the logger only."""
    errors = logger().errors
    said = "; ".join(dict.fromkeys(errors)) or "it gave no reason"
    errors.clear()
    kind = OutOfMemoryError if re.search("out ?of ?memory", said, re.IGNORECASE) else BenexpError
    return kind(f"{what}: {said}")


class TensorrtEngine:
    """An engine file, loaded on a GPU: patches [batch, bands, p, p] float32 there to probabilities [batch, classes].

    `about` is what the exporter wrote into the .json file beside it. Raises BenexpError where another TensorRT or
    another GPU made the engine, OutOfMemoryError where the GPU has no room for it.
    """

    def __init__(self, path: Path, gpu: Gpu) -> None:
        import torch

        trt = library()
        self._path = path
        self._gpu = gpu
        self.about = _about(path)
        made, here = ((self.about["tensorrt"], self.about["gpu"]), (trt.__version__, gpu.name))
        if made != here:
            raise BenexpError(
                f"{path} was built by TensorRT {made[0]} for {made[1]}, and here is TensorRT {here[0]} on {here[1]}: "
                f"delete it, and benexp builds one for this GPU"
            )
        logger().errors.clear()
        with gpu.current():
            self._runtime = trt.Runtime(logger())
            self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
            if self._engine is None:
                raise failed(f"{path} cannot be loaded, delete it")
            self._context = self._engine.create_execution_context()
            if self._context is None:
                raise failed(f"TensorRT cannot run {path}")
            if not self._context.set_input_shape("patches", tuple(self.about["shape"])):
                raise failed(f"{path} does not take patches {self.about['shape']}")
            shape = tuple(self._context.get_tensor_shape("probabilities"))
            # torch aligns its allocations as TensorRT asks for, which parts of a larger array would not be.
            self._answers = torch.empty(shape, dtype=torch.float32, device=gpu.device)
            if not self._context.set_tensor_address("probabilities", self._answers.data_ptr()):
                raise failed(f"TensorRT cannot answer into {shape} float32 for {path}")

    def __call__(self, patches: "torch.Tensor") -> "torch.Tensor":
        """To be called while the GPU is current, with contiguous patches of a whole batch; waits for nothing."""
        taken = self._context.set_tensor_address("patches", patches.data_ptr())
        if not taken or not self._context.execute_async_v3(self._gpu.stream):
            raise failed(f"TensorRT failed on {self._path}")
        # The next batch is answered in the same memory.
        return self._answers.clone()


def _about(path: Path) -> dict[str, Any]:
    file = path.with_suffix(".json")
    if not file.is_file():
        raise BenexpError(f"{path} has no {file.name} beside it that says what it was built for: build it again")
    about: dict[str, Any] = json.loads(file.read_text())
    return about
