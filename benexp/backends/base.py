"""The contract of a backend: what executes the model on the patches of a chunk.

A backend is a context manager. The public methods check state and results; a subclass overrides `_open`, `_infer` and
`_close`. Batches, and their size, are in batching.py, patches are cut in patches.py; a device backend may override
`_upload` and `_classify` to bring a chunk to its device once and cut patches there.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from benexp.backends.batching import BatchedEngine
from benexp.backends.patches import Part, StagedChunk, count
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError, OutOfMemoryError, one_line
from benexp.models.spec import ModelSpec

log = logging.getLogger("benexp")

Needs = Literal["checkpoint", "onnx", "openvino", "tensorrt", "tensorrt-onnx", "nothing"]
"""`tensorrt-onnx` is an .onnx file as TensorRT takes it, which differs from ONNX Runtime's at int8."""


class FallbackError(BenexpError):
    """Something else than what was asked for would run, and the user did not allow it."""


class Backend(BatchedEngine):
    """Runs one model at one precision on one device.

    `artefact` is the file or folder that `needs` names, or, where the engine is built for one batch size, what makes it
    for a batch size: tasks see to it that it exists.
    """

    needs: ClassVar[Needs] = "nothing"
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions, as pip names them, of the engine that answers: a grid of one version is not reused by another."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """The values of `device`, up to a colon: `cuda` stands for `cuda:1`, too."""

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
        super().__init__(spec, artefact, batch_size)
        self.precision = precision
        """The one that runs: another than was asked for only with `allow_fallback`."""
        self.device = device
        self.threads = threads
        self.allow_fallback = allow_fallback
        self.fallbacks: list[str] = []
        self.open_seconds: dict[str, float] = {}
        """Seconds of opening: `choose_batch` where that was asked for, `load` (with compiling) and `first_batch`."""
        self._is_open = False

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
                self.classify_parts([self._sample()])
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
        col) of the patches' upper left pixels in the chunk. Invalid pixels enter the model as the band's mean. The
        batch is made even for this chunk (`fit`). Any thread may call this; they take turns.

        Raises BenexpError where the model answers in another shape or with anything but probabilities.
        """
        staged = self.stage(chunk, valid)
        with self._turn:
            before, self._tile_patches = self._tile_patches, len(origins)
            try:
                return self.classify_parts([(staged, origins)])
            finally:
                self._tile_patches = before

    def fit(self, patches: int) -> None:
        """Expect tiles of so many patches: the batch is made smaller where more than 3 % of all would be padding.

        A single batch becomes as small as its patches are few. An engine that is made for one batch size keeps that.
        Before `open`, it lets `batch_size=auto` count real patches only.
        """
        self._tile_patches = patches

    def stage(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> StagedChunk:
        """A chunk for `classify_parts`, on its way to the engine's device; for a thread that reads ahead.

        `pixels` and `valid` must not change afterwards.
        """
        chunk = StagedChunk(pixels, valid)
        if self._is_open:
            try:
                with self._worded():
                    self._on_device(chunk)
            except OutOfMemoryError:
                chunk.on_device = None  # classify_parts makes room
        return chunk

    def classify_parts(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        """The class probabilities [n, classes] of patches of several chunks, which share batches; see `classify`."""
        if not self._is_open:
            raise RuntimeError(f"{type(self).__name__} is not open: use it in a with statement")
        with self._turn:
            probabilities = self._halving(lambda: self._classify(parts))
        self._of_shape(probabilities, count(parts))
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
        """The record of what runs: engine, version, active provider, device, precision, threads, batch size."""
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

    def _open(self) -> None:
        """Load and compile."""

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities [n, classes] of patches [n, bands, patch, patch] in model DN; the caller reuses `patches`."""
        raise NotImplementedError

    def _close(self) -> None:
        """Free what `_open` took, be it only a part of it."""

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
