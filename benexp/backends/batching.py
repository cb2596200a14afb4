"""The number of patches that go through an engine at once.

Batches of one size, filled across chunks (`PatchQueue`); the choice of `auto`; half the batch where memory runs out.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from benexp.backends.patches import Part, StagedChunk, count, cut, needed, split
from benexp.core.errors import BenexpError, OutOfMemoryError, one_line
from benexp.models.spec import ModelSpec

log = logging.getLogger("benexp")

Result = TypeVar("Result")

START = 4
"""Smaller batches are no use to anybody who does not run out of memory."""
LIMIT = 4096
GAIN = 0.05
REAL = 0.97
"""The share of the patches that are computed over a tile that shall be real ones, not padding."""
MULTIPLE = 8
"""Batches of such sizes suit matrix units."""
_OUT_OF_MEMORY = (
    *("bad_alloc", "out of memory", "outofmemory", "_alloc_failed", "_allocation_failed", "can't allocate memory"),
    "unable to find an engine to execute this computation",
)
"""Words of the C++ library, CUDA, cuBLAS, cuDNN 8 and 9, and torch, whose convolutions say the last."""


def choose_batch(rate: Callable[[int], float | None]) -> tuple[int, dict[int, float | None]]:
    """The batch size whose double is less than 5 % faster, and the patches/s of every size that was tried.

    `rate(size)` gives patches/s, or None where memory does not suffice. Where it does not for the first size, 1 is
    chosen: opening the backend with it then fails or succeeds.

    >>> choose_batch({4: 10.0, 8: 19.0, 16: 19.5}.get)
    (8, {4: 10.0, 8: 19.0, 16: 19.5})
    """
    rates: dict[int, float | None] = {}
    chosen, size = 1, START
    while size <= LIMIT:
        speed = rates[size] = rate(size)
        before = rates.get(chosen)
        if speed is None or (before is not None and speed < before * (1 + GAIN)):
            break
        chosen, size = size, 2 * size
    return chosen, rates


def even_batch(patches: int, batch_size: int) -> int:
    """The batch of a tile of so many patches: `batch_size`, or less where more than 3 % of that would be padding.

    0 patches: their number is not known.

    >>> even_batch(182 * 182, 256), even_batch(92 * 92, 1024), even_batch(9, 256)
    (256, 944, 9)
    """
    if real_share(patches, batch_size) >= REAL:
        return batch_size
    batches = -(-patches // batch_size)
    even = -(-patches // batches)
    rounded = min(batch_size, -(-even // MULTIPLE) * MULTIPLE)
    return rounded if real_share(patches, rounded) >= REAL else even


def real_share(patches: int, batch_size: int) -> float:
    """The share of `patches` in what batches compute of which the last is filled up; 1 where there are none."""
    return patches / (-(-patches // batch_size) * batch_size) if patches else 1.0


class BatchedEngine(ABC):
    """An engine that is loaded for a batch size, and runs the patches of a chunk in batches of that size.

    The part of a backend that its author need not know: `benexp.backends.base.Backend` is the contract.
    """

    pads: bool = True
    """True where the last batch is filled up, as engines that choose kernels by its shape need it. An engine that
    overrides `_classify` does so there."""
    fixed_batch: bool = False
    """True where `_open` makes an engine for one batch size: another size needs another engine."""

    def __init__(
        self, spec: ModelSpec, artefact: Path | Callable[[int], Path] | None, batch_size: int | Literal["auto"]
    ) -> None:
        self.spec = spec
        self.artefact = artefact if isinstance(artefact, Path) else None
        self.batch_size_asked = batch_size
        self.batch_size = 1 if batch_size == "auto" else batch_size
        self.on_batch: Callable[[float], object] | None = None
        """Receives the seconds of every batch. They begin when its patches are there (with an engine that cuts them on
        the device: when the cut begins) and end when its answer is, so that batches that run side by side count in
        full."""
        self._artefact_for = artefact if callable(artefact) else None
        self._is_loaded = False
        self._openings = 0
        self._tile_patches = 0
        self._turn = threading.RLock()

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...

    @property
    def at_once(self) -> int:
        """The patches of a batch: `batch_size`, or what `even_batch` makes of it where the engine takes any."""
        if self.fixed_batch or self._artefact_for or self.spec.batch:
            return self.batch_size
        return even_batch(self._tile_patches, self.batch_size)

    def _load(self) -> None:
        if self._artefact_for:
            self.artefact = self._artefact_for(self.batch_size)
        # Before it is whole: what a failed `_open` took is freed by `_close`.
        self._is_loaded = True
        self._openings += 1
        self._open()

    def _unload(self) -> None:
        if self._is_loaded:
            self._is_loaded = False
            self._close()

    def _upload(self, chunk: StagedChunk) -> Any:
        """The engine's copy of a chunk, on its way to the device; None where the engine reads the chunk itself.

        Another thread than the one that classifies may call this.
        """
        return None

    def _on_device(self, chunk: StagedChunk) -> Any:
        """`chunk.on_device`, made anew where it is of an engine that was closed since."""
        # Read first: where another thread opens the engine anew meanwhile, this copy is of the one that was closed.
        opening = self._openings
        if chunk.on_device is None or chunk.opening != opening:
            chunk.on_device, chunk.opening = self._upload(chunk), opening
        return chunk.on_device

    def _classify(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        """Probabilities [n, classes] of the patches of `parts`; an engine that cuts them on its device does it here."""
        answers = np.empty((count(parts), len(self.spec.classes)), np.float32)
        done = 0
        for batch, real in self._batches(parts):
            with self._timed():
                answers[done : done + real] = self._of_shape(self._infer(batch), len(batch))[:real]
            done += real
        return answers

    def _batches(
        self, parts: Sequence[Part], memory: Callable[[], npt.NDArray[np.float32]] | None = None
    ) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Cut patches into `memory` [batch, bands, p, p], asked for before each batch, else into one reused buffer.

        Yields it with the number of real patches in it.
        """
        spec = self.spec
        shape = (self.at_once, len(spec.bands), spec.patch_size, spec.patch_size)
        reused = None if memory else np.zeros(shape, np.float32)
        for group in split(parts, self.at_once):
            buffer = memory() if memory else reused
            assert buffer is not None
            cut(group, spec.means, buffer)
            real = count(group)
            yield (buffer if self.pads else buffer[:real]), real

    def _sample(self) -> Part:
        """A chunk that is one patch, asked for as often as a batch has patches."""
        size = self.spec.patch_size
        pixels = np.full((len(self.spec.bands), size, size), 1000, np.uint16)
        return StagedChunk(pixels, np.ones((size, size), bool)), np.zeros((self.at_once, 2), np.int64)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Times one batch, whose answer is there at the end of the block."""
        started = time.perf_counter()
        yield
        if self.on_batch:
            self.on_batch(time.perf_counter() - started)

    def _of_shape(self, answer: Result, count: int) -> Result:
        """`answer`, which must be of `count` patches: numpy would stretch one of one patch over the rest."""
        shape, expected = tuple(getattr(answer, "shape", ())), (count, len(self.spec.classes))
        if shape != expected:
            raise BenexpError(
                f"model {self.spec.name} answered in shape {shape}, not {expected}: is it the right file?"
            )
        return answer

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
                    sample = self._sample()
                    self._classify([sample])
                    seconds: list[float] = []
                    while len(seconds) < 3 or (sum(seconds) < 0.5 and len(seconds) < 20):
                        started = time.perf_counter()
                        self._classify([sample])
                        seconds.append(time.perf_counter() - started)
            except OutOfMemoryError:
                return None
            # Of a large batch, less may be real.
            share = real_share(self._tile_patches, self.at_once) if self.pads else 1
            return share * len(sample[-1]) / sorted(seconds)[len(seconds) // 2]

        chosen, rates = choose_batch(rate)
        # A fresh engine: buffers and pools that grew with larger batches are given back.
        self._unload()
        self.batch_size = chosen
        tried = ", ".join(f"{size}: {f'{speed:.0f}/s' if speed else 'out of memory'}" for size, speed in rates.items())
        log.info("%s: backend.batch_size=auto chose %d (patches at once: %s)", type(self).__name__, chosen, tried)

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
        """True where a smaller batch could help; engines word it in their own ways."""
        said = str(error).lower()
        return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)


class Classifies(Protocol):
    """A backend, as `PatchQueue` needs it."""

    spec: ModelSpec

    @property
    def at_once(self) -> int: ...

    def classify_parts(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]: ...


class PatchQueue:
    """Patches of successive chunks that wait until they fill batches: only a tile's last batch is padded."""

    def __init__(self, backend: Classifies) -> None:
        self._backend = backend
        self._waiting: list[Part] = []
        self._wanted: deque[int] = deque()
        """The numbers of patches of the chunks that are not answered yet."""
        self._answers = np.empty((0, len(backend.spec.classes)), np.float32)
        """The answers of the first patches of these chunks."""

    def put(self, part: Part) -> list[npt.NDArray[np.float32]]:
        """Add a chunk with its patches; the answers [n, classes] of the chunks that are done now, in their order."""
        self._wanted.append(len(part[1]))
        if len(part[1]):
            self._waiting.append(part)
        waiting = count(self._waiting)
        done = self._run(waiting - waiting % self._backend.at_once)
        if self._waiting:
            self._waiting[-1] = needed(self._waiting[-1], self._backend.spec.patch_size)
        return done

    def finish(self) -> list[npt.NDArray[np.float32]]:
        """The answers of the chunks that are left."""
        return self._run(count(self._waiting))

    def _run(self, patches: int) -> list[npt.NDArray[np.float32]]:
        """Classify the first `patches` of those that wait."""
        if patches:
            now, *later = split(self._waiting, patches)
            self._waiting = [part for group in later for part in group]
            self._answers = np.concatenate([self._answers, self._backend.classify_parts(now)])
        done = []
        while self._wanted and self._wanted[0] <= len(self._answers):
            wanted = self._wanted.popleft()
            done.append(self._answers[:wanted])
            self._answers = self._answers[wanted:]
        return done
