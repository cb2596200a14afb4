"""The contract of a backend: what executes the model on the patches of a chunk.

A backend is a context manager. The public methods check state and results; subclasses override `_open`, `_infer` and
`_close`, and a device backend may override `_classify` to upload a chunk once and cut patches on the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from benexp.errors import BenexpError, one_line
from benexp.models.spec import ModelSpec

Needs = Literal["checkpoint", "onnx", "nothing"]


class Backend:
    """Runs one model at one precision on one device.

    `artefact` is the file or folder that `needs` names: tasks see to it that it exists.
    """

    needs: ClassVar[Needs] = "nothing"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """What `device` may be, up to a colon: `cuda` stands for `cuda:1`, too."""
    pads: ClassVar[bool] = True
    """Whether the last batch is filled up to `batch_size`: engines that choose kernels by the batch's shape need it."""

    def __init__(
        self,
        spec: ModelSpec,
        artefact: Path | None = None,
        *,
        batch_size: int = 32,
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        if precision not in self.precisions:
            raise BenexpError(
                f"backend.precision={precision}: {type(self).__name__} takes {', '.join(self.precisions)}"
            )
        self.spec = spec
        self.artefact = artefact
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.threads = threads
        self._is_open = False

    def open(self) -> None:
        """Load the artefact, compile, and run one batch, so that `classify` meets a warm engine."""
        if self._is_open:
            raise RuntimeError(f"{type(self).__name__} is already open")
        with self._worded():
            self._open()
        self._is_open = True
        size = self.spec.patch_size
        blank = np.zeros((len(self.spec.bands), size, size), np.uint16)
        try:
            self.classify(blank, np.ones((size, size), bool), np.zeros((1, 2), np.int64))
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
        col) of the patches' upper left pixels in the chunk. Invalid pixels enter the model as the band's mean.

        Raises BenexpError where the model answers in another shape or with anything but probabilities.
        """
        if not self._is_open:
            raise RuntimeError(f"{type(self).__name__} is not open: use it in a with statement")
        with self._worded():
            probabilities = self._classify(chunk, valid, origins)
        expected = (len(origins), len(self.spec.classes))
        if probabilities.shape != expected:
            raise BenexpError(
                f"model {self.spec.name} answered in shape {probabilities.shape}, not {expected}: is it the right file?"
            )
        # Written so that NaN fails too.
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise BenexpError(
                f"model {self.spec.name} on {type(self).__name__} at {self.precision} answered NaN or outside 0 to 1"
            )
        return probabilities

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._close()

    def describe(self) -> dict[str, Any]:
        """What runs, for the records: engine, version, active provider, device, precision, threads, batch size."""
        return {
            "backend": type(self).__name__,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "batch_size": self.batch_size,
        }

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Whatever an engine or a user's class raises, as one line that names the backend."""
        try:
            yield
        except BenexpError:
            raise
        except Exception as error:
            raise BenexpError(f"{type(self).__name__} failed on model {self.spec.name}: {one_line(error)}") from error

    def _open(self) -> None:
        """Load and compile."""

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities [n, classes] of patches [n, bands, patch, patch] in model DN; the caller reuses `patches`."""
        raise NotImplementedError

    def _close(self) -> None:
        """Free what `_open` took."""

    def _classify(
        self, chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        answers = np.empty((len(origins), len(self.spec.classes)), np.float32)
        done = 0
        for batch, count in self._batches(chunk, valid, origins):
            answers[done : done + count] = self._infer(batch)[:count]
            done += count
        return answers

    def _batches(
        self, chunk: npt.NDArray[Any], valid: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Cut patches into one reused buffer; yields it with the number of real patches in it."""
        size = self.spec.patch_size
        means = np.asarray(self.spec.means, np.float32)[:, None, None]
        all_valid = bool(valid.all())
        buffer = np.zeros((self.batch_size, len(chunk), size, size), np.float32)
        for start in range(0, len(origins), self.batch_size):
            group = origins[start : start + self.batch_size]
            for patch, (row, col) in zip(buffer, group, strict=False):
                patch[:] = chunk[:, row : row + size, col : col + size]
                if not all_valid:
                    np.copyto(patch, means, where=~valid[row : row + size, col : col + size])
            yield (buffer if self.pads else buffer[: len(group)]), len(group)
