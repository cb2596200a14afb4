"""The contract of a backend: what executes the model on the patches of a chunk.

A backend is a context manager. The public methods check state and results, halve the batch when memory runs out, and
choose it where it is `auto`; subclasses override `_open`, `_infer` and `_close`, and a device backend may override
`_classify` to upload a chunk once and cut patches on the device.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

from benexp.backends.batching import choose_batch
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError, OutOfMemoryError, one_line
from benexp.models.spec import ModelSpec

log = logging.getLogger("benexp")

Needs = Literal["checkpoint", "onnx", "openvino", "tensorrt", "tensorrt-onnx", "nothing"]
"""`tensorrt-onnx` is an .onnx file as TensorRT takes it, which differs from ONNX Runtime's at int8."""
Result = TypeVar("Result")

_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "outofmemory", "_alloc_failed", "can't allocate memory")
"""Words of the C++ library, CUDA, cuBLAS, cuDNN and torch."""


class FallbackError(BenexpError):
    """Something else than what was asked for would run, and the user did not allow it."""


class Backend:
    """Runs one model at one precision on one device.

    `artefact` is the file or folder that `needs` names, or, where the engine is built for one batch size, what makes it
    for a batch size: tasks see to it that it exists.
    """

    needs: ClassVar[Needs] = "nothing"
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions, as pip names them, of the engine that answers: a grid of one version is not reused by another."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """What `device` may be, up to a colon: `cuda` stands for `cuda:1`, too."""
    pads: bool = True
    """Whether the last batch is filled up to `batch_size`, which engines that choose kernels by its shape need. Whoever
    overrides `_classify` sees to it there."""
    fixed_batch: ClassVar[bool] = False
    """Whether `_open` makes an engine for one batch size: another size needs another engine."""

    def __init__(
        self,
        spec: ModelSpec,
        artefact: Path | Callable[[int], Path] | None = None,
        *,
        batch_size: int | Literal["auto"] = 32,
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
        allow_fallback: bool = False,
    ) -> None:
        if precision not in self.precisions:
            raise BenexpError(
                f"backend.precision={precision}: {type(self).__name__} takes {', '.join(self.precisions)}"
            )
        self.spec = spec
        self.artefact = artefact if isinstance(artefact, Path) else None
        self._artefact_for = artefact if callable(artefact) else None
        self.batch_size_asked = batch_size
        self.batch_size = 1 if batch_size == "auto" else batch_size
        self.precision = precision
        """What runs: another than was asked for only where `allow_fallback`."""
        self.device = device
        self.threads = threads
        self.allow_fallback = allow_fallback
        self.fallbacks: list[str] = []
        self.on_batch: Callable[[float], object] | None = None
        """Told the seconds of every batch. They begin when its patches are there (with an engine that cuts them on the
        device: when the cut begins) and end when its answer is, so that batches that run side by side count in full."""
        self.open_seconds: dict[str, float] = {}
        """What opening took: `choose_batch` where that was asked for, `load` (with compiling) and `first_batch`."""
        self._is_open = False
        self._is_loaded = False
        self._turn = threading.RLock()

    @classmethod
    def artefact_precision(cls, precision: str) -> str:
        """The precision of the artefact that this backend runs at `precision`."""
        return precision

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        """Raise BenexpError where a library that this backend runs on is missing, before anything is made for it.

        FallbackError where something else would run, unless `allow_fallback`.
        """

    @classmethod
    def ensure_available(cls, *, allow_fallback: bool = False) -> None:
        """`check_available`, raising BenexpError also where a user's class raises something else."""
        try:
            cls.check_available(allow_fallback=allow_fallback)
        except BenexpError:
            raise
        except Exception as error:
            raise BenexpError(f"{cls.__name__} cannot run here: {one_line(error)}") from error

    def open(self) -> None:
        """Load the artefact, compile, and run one batch, so that `classify` meets a warm engine."""
        if self._is_open:
            raise RuntimeError(f"{type(self).__name__} is already open")
        self.ensure_available(allow_fallback=self.allow_fallback)
        clocks = StageClocks()
        try:
            if self.batch_size_asked == "auto":
                with clocks.stage("choose_batch"):
                    self._choose_batch()
            with clocks.stage("load"):
                self._halving(lambda: None)
            self._is_open = True
            with clocks.stage("first_batch"):
                self.classify(*self._sample(self.batch_size))
            self.open_seconds = clocks.rounded()
        except BaseException:
            self.close()
            raise

    def classify(
        self,
        chunk: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_],
        origins: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """The class probabilities [n, classes] of the patches of a chunk.

        `chunk` [bands, h, w] is in model DN, `valid` [h, w] marks its usable pixels, `origins` [n, 2] are the (row,
        col) of the patches' upper left pixels in the chunk. Invalid pixels enter the model as the band's mean. Any
        thread may call this; they take turns.

        Raises BenexpError where the model answers in another shape or with anything but probabilities.
        """
        if not self._is_open:
            raise RuntimeError(f"{type(self).__name__} is not open: use it in a with statement")
        with self._turn:
            probabilities = self._halving(lambda: self._classify(chunk, valid, origins))
        self._whole(probabilities, len(origins))
        # Written so that NaN fails too.
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise BenexpError(
                f"model {self.spec.name} on {type(self).__name__} at {self.precision} answered NaN or outside 0 to 1"
            )
        return probabilities

    def close(self) -> None:
        self._is_open = False
        self._unload()

    def describe(self) -> dict[str, Any]:
        """What runs, for the records: engine, version, active provider, device, precision, threads, batch size."""
        return {
            "backend": type(self).__name__,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "batch_size_asked": self.batch_size_asked,
            "fallback": "; ".join(self.fallbacks) or None,
        }

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> None:
        if self._artefact_for:
            self.artefact = self._artefact_for(self.batch_size)
        # Before it is whole: what a failed `_open` took is freed by `_close`.
        self._is_loaded = True
        self._open()

    def _unload(self) -> None:
        if self._is_loaded:
            self._is_loaded = False
            self._close()

    def _sample(self, count: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """A chunk that is one patch, asked for `count` times."""
        size = self.spec.patch_size
        chunk = np.full((len(self.spec.bands), size, size), 1000, np.uint16)
        return chunk, np.ones((size, size), bool), np.zeros((count, 2), np.int64)

    def _halving(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, with half the batch as often as memory runs out, unless the file takes but one."""
        while True:
            try:
                with self._worded():
                    if not self._is_loaded:
                        self._load()
                    return work()
            except OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise BenexpError(
                        f"{error}: not even one patch at a time fits; choose a smaller chunking.chunk_size, "
                        f"another backend.device or a smaller model"
                    ) from error
                if self.spec.batch:
                    raise BenexpError(
                        f"{error}: {self.spec.batch} patches at once is the only batch that {self.spec.path} takes; "
                        f"export one for a smaller batch (export.batch=)"
                    ) from error
            # Out of the handler: the traceback holds the arrays of the failed batch. A fresh engine, too: the memory
            # pool of the old one stays as full as it was.
            self._unload()
            log.warning(
                "%s: out of memory with %d patches at once, going on with %d",
                type(self).__name__,
                self.batch_size,
                self.batch_size // 2,
            )
            self.batch_size //= 2

    def _choose_batch(self) -> None:
        """Double the batch until that gains less than 5 % or memory ends; that of a file which takes no other."""
        if self.spec.batch:
            self.batch_size = self.spec.batch
            log.info(
                "%s: backend.batch_size=auto is %d, which %s was exported for",
                type(self).__name__,
                self.spec.batch,
                self.spec.path,
            )
            return

        def rate(size: int) -> float | None:
            self.batch_size = size
            try:
                with self._worded():
                    if self._artefact_for or self.fixed_batch:
                        self._unload()
                    if not self._is_loaded:
                        self._load()
                    sample = self._sample(size)
                    self._classify(*sample)
                    seconds: list[float] = []
                    while len(seconds) < 3 or (sum(seconds) < 0.5 and len(seconds) < 20):
                        started = time.perf_counter()
                        self._classify(*sample)
                        seconds.append(time.perf_counter() - started)
            except OutOfMemoryError:
                return None
            return len(sample[-1]) / sorted(seconds)[len(seconds) // 2]

        chosen, rates = choose_batch(rate)
        # A fresh engine: buffers and pools that grew with larger batches are given back.
        self._unload()
        self.batch_size = chosen
        tried = ", ".join(f"{size}: {f'{speed:.0f}/s' if speed else 'out of memory'}" for size, speed in rates.items())
        log.info("%s: backend.batch_size=auto chose %d (patches at once: %s)", type(self).__name__, chosen, tried)

    def _fell_back(self, asked: str, active: str, remedy: str) -> None:
        """Refuse to run on `active` in place of `asked`, or, where the user allows it, warn and put it on record."""
        fallback = f"{active} in place of {asked}"
        if not self.allow_fallback:
            raise self._fallback_error(asked, active, remedy)
        log.warning("%s: running on %s: %s", type(self).__name__, fallback, remedy)
        if fallback not in self.fallbacks:  # it is met again whenever the engine is opened anew
            self.fallbacks.append(fallback)

    @classmethod
    def _fallback_error(cls, asked: str, active: str, remedy: str) -> FallbackError:
        return FallbackError(
            f"{cls.__name__}: {asked} was asked for, but {active} is what would run: {remedy}; "
            f"or accept it with backend.allow_fallback=true"
        )

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Whatever an engine or a user's class raises, as one line that names the backend."""
        try:
            yield
        except BenexpError:
            raise
        except Exception as error:
            kind = OutOfMemoryError if self._is_out_of_memory(error) else BenexpError
            raise kind(f"{type(self).__name__} failed on model {self.spec.name}: {one_line(error)}") from error

    def _is_out_of_memory(self, error: Exception) -> bool:
        """Whether a smaller batch could help; engines word it in their own ways."""
        said = str(error).lower()
        return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)

    def _open(self) -> None:
        """Load and compile."""

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities [n, classes] of patches [n, bands, patch, patch] in model DN; the caller reuses `patches`."""
        raise NotImplementedError

    def _close(self) -> None:
        """Free what `_open` took, be it only a part of it."""

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """Times one batch, whose answer is there at the end of the block."""
        started = time.perf_counter()
        yield
        if self.on_batch:
            self.on_batch(time.perf_counter() - started)

    def _classify(
        self, chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        answers = np.empty((len(origins), len(self.spec.classes)), np.float32)
        done = 0
        for batch, count in self._batches(chunk, valid, origins):
            with self._batch():
                answers[done : done + count] = self._whole(self._infer(batch), len(batch))[:count]
            done += count
        return answers

    def _whole(self, answer: Result, count: int) -> Result:
        """`answer`, which must be of `count` patches: numpy would stretch one of one patch over the rest."""
        shape, expected = tuple(getattr(answer, "shape", ())), (count, len(self.spec.classes))
        if shape != expected:
            raise BenexpError(
                f"model {self.spec.name} answered in shape {shape}, not {expected}: is it the right file?"
            )
        return answer

    def _batches(
        self,
        chunk: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_],
        origins: npt.NDArray[np.int64],
        memory: Callable[[], npt.NDArray[np.float32]] | None = None,
    ) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Cut patches into `memory` [batch, bands, p, p], asked for before each batch, else into one reused buffer.

        Yields it with the number of real patches in it.
        """
        size = self.spec.patch_size
        means = np.asarray(self.spec.means, np.float32)[:, None, None]
        all_valid = bool(valid.all())
        reused = None if memory else np.zeros((self.batch_size, len(chunk), size, size), np.float32)
        for start in range(0, len(origins), self.batch_size):
            group = origins[start : start + self.batch_size]
            buffer = memory() if memory else reused
            assert buffer is not None
            for patch, (row, col) in zip(buffer, group, strict=False):
                patch[:] = chunk[:, row : row + size, col : col + size]
                if not all_valid:
                    np.copyto(patch, means, where=~valid[row : row + size, col : col + size])
            yield (buffer if self.pads else buffer[: len(group)]), len(group)
