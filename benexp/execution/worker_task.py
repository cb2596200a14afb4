"""The task of workers: whole tiles, or chunks of a tile whose grid another process gathers."""

import dataclasses
import pickle
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benexp.backends.cuda import gpu_count
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.mapping import pipeline
from benexp.mapping.grid import Answers, PatchGrid
from benexp.mapping.plausibility import tally
from benexp.products.tile import Tile
from benexp.records.run import RunRecord
from benexp.runs.backend_choice import BackendChoice, LazyBackend
from benexp.runs.inputs import open_input
from benexp.runs.plan import RunPlan
from benexp.runs.tile_grid import LocalClassifier
from benexp.runs.tile_run import run_tile


@dataclasses.dataclass(frozen=True)
class ChunkResult:
    """The answers for one chunk as they are sent: kilobytes."""

    probabilities: npt.NDArray[np.float32]
    classified: npt.NDArray[np.bool_]
    valid: bytes
    """Bits, compressed: most chunks are valid all over."""
    tally: npt.NDArray[np.int64]
    seconds: dict[str, float]
    backend: dict[str, Any]

    def answers(self, shape: tuple[int, int]) -> Answers:
        """The answers, of a window of this shape [h, w]."""
        bits = np.frombuffer(zlib.decompress(self.valid), np.uint8).reshape(shape[0], -1)
        valid = np.unpackbits(bits, axis=1, count=shape[1]).astype(bool)
        return Answers(self.probabilities, self.classified, valid, self.tally)


class ClassifyTask:
    """A worker's copy of the plan, its one backend, and the tile whose chunks it classifies. See WorkerTask."""

    def __init__(self, plan: RunPlan) -> None:
        # Workers may be in other folders.
        spec = dataclasses.replace(plan.spec, path=plan.spec.path.absolute())
        plan = dataclasses.replace(plan, output_folder=plan.output_folder.absolute(), spec=spec)
        # Unpickled in `open`, whose errors are reported, such as a user's module that the worker lacks.
        self._pickled = pickle.dumps(plan)

    def open(self, number: int | None) -> None:
        """Take over the plan, as worker `number` of its machine; the backend opens when the first chunk needs it."""
        plan: RunPlan = pickle.loads(self._pickled)
        self._plan = dataclasses.replace(plan, backend=on_its_gpu(plan.backend, number))
        self._backend = LazyBackend(self._plan.make_backend)
        self._tile: Tile | None = None
        self._at: Path | None = None
        self._turn = threading.Lock()

    def close(self) -> None:
        if self._tile:
            self._tile.close()
        self._backend.__exit__(None, None, None)

    def tile(self, product: Path) -> tuple[RunRecord, list[str]]:
        """Classify a product and write its results; its record, and the lines to print."""
        lines: list[str] = []
        classifier = LocalClassifier(self._plan, self._backend.get)
        return run_tile(self._plan, product, classifier, lambda text: lines.append(str(text))), lines

    def chunk(
        self, product: Path, stamp: str, fingerprint: str, rows: slice, cols: slice, wanted: npt.NDArray[np.uint8]
    ) -> ChunkResult:
        """Read and classify the `wanted` patches (bits) of these rows and columns of a product.

        Its files must be those that the gathering process sees.
        """
        chunking, clocks = self._plan.chunking, StageClocks()
        tile = self._opened(product)
        # Most workers see the same file system: then the files need not be read as a whole by each.
        if stamp != tile.stamp and fingerprint != tile.fingerprint:
            raise BenexpError(f"{product}: a worker sees another file than here: workers need the same folders")
        patches = PatchGrid(tile.shape, self._plan.spec.patch_size, chunking.stride)
        count = (rows.stop - rows.start) * (cols.stop - cols.start)
        chunk = patches.chunk(rows, cols, np.unpackbits(wanted, count=count).astype(bool))
        with clocks.stage("load"):
            backend = self._backend.get(count)
        with clocks.stage("read"):
            pixels, valid = tile.read(chunk.window)
            counts = tally(pixels, valid)
        with clocks.stage("infer"):
            answers = pipeline.classify_chunk(backend, pixels, valid, chunk, patches.patch_size, chunking.min_valid)
        bits = zlib.compress(np.packbits(valid, axis=1).tobytes(), 1)
        return ChunkResult(*answers, bits, counts, dict(clocks.seconds), backend.describe())

    def describe(self) -> dict[str, Any]:
        """`describe()` of the backend."""
        return self._backend.get().describe()

    def _opened(self, product: Path) -> Tile:
        with self._turn:
            if self._tile is None or self._at != product:
                if self._tile:
                    self._tile.close()
                self._tile = open_input(product, self._plan.reading, self._plan.spec.bands, warn=False)
                self._at = product
            return self._tile


def on_its_gpu(backend: BackendChoice, number: int | None) -> BackendChoice:
    """The backend of worker `number` of a machine: each takes the next GPU, unless one is named."""
    if number is None or backend.settings.get("device") != "cuda":
        return backend
    count = gpu_count()
    return backend.replace(device=f"cuda:{number % count}") if count > 1 else backend
