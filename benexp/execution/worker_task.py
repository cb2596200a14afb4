"""Classifying in workers: whole tiles, or the chunks of one whose grid is gathered elsewhere."""

import dataclasses
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benexp.backends.cuda import gpu_count
from benexp.config.schema import Config
from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.mapping import pipeline
from benexp.mapping.grid import PatchGrid
from benexp.mapping.pipeline import Answers
from benexp.mapping.plausibility import tally
from benexp.models.spec import ModelSpec
from benexp.products.tile import Tile
from benexp.runs.backend_setup import LazyBackend
from benexp.runs.inputs import open_input
from benexp.runs.quantization import calibration_for_backend
from benexp.tasks.classify import Job, checked_layers


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What is sent back of one chunk: kilobytes."""

    probabilities: npt.NDArray[np.float32]
    classified: npt.NDArray[np.bool_]
    valid: bytes
    """Bits, squeezed: most chunks are valid all over."""
    tally: npt.NDArray[np.int64]
    seconds: dict[str, float]
    backend: dict[str, Any]

    def answers(self, shape: tuple[int, int]) -> Answers:
        """What is in it, of a window of this shape [h, w]."""
        bits = np.frombuffer(zlib.decompress(self.valid), np.uint8).reshape(shape[0], -1)
        valid = np.unpackbits(bits, axis=1, count=shape[1]).astype(bool)
        return Answers(self.probabilities, self.classified, valid, self.tally)


class TileWorkshop:
    """A worker's one backend, and the tile whose chunks it is at."""

    def __init__(self, config: Config, overrides: Sequence[str], spec: ModelSpec, found: Sequence[Path]) -> None:
        # Workers may be in other folders.
        self._config = dataclasses.replace(config, output_folder=str(Path(config.output_folder).absolute()))
        self._overrides = list(overrides)
        self._spec = dataclasses.replace(spec, path=spec.path.absolute())
        self._found = list(found)

    def open(self, number: int | None) -> None:
        """See Workshop. The backend opens when the first chunk needs it."""
        config, spec = self._config, self._spec
        self._calibration = calibration_for_backend(self._found, config, spec)
        backend = config.backend | on_its_gpu(config.backend, number)
        self._backend = LazyBackend(
            backend, spec, tolerances=config.export.tolerance, calibration=self._calibration
        ).__enter__()
        self._tile: Tile | None = None
        self._at: Path | None = None
        self._turn = threading.Lock()

    def close(self) -> None:
        if self._tile:
            self._tile.close()
        self._backend.__exit__(None, None, None)

    def tile(self, product: Path) -> tuple[dict[str, Any], list[str]]:
        """Classify a product and write its results; its record, and what there is to say."""
        said: list[str] = []
        job = Job(
            *(product, self._config, self._overrides, self._spec, checked_layers(self._config)),
            *(self._backend.get, self._calibration, lambda text: said.append(str(text))),
        )
        return job.run(taken=()), said

    def chunk(self, product: Path, stamp: str, fingerprint: str, number: int) -> Parcel:
        """Read and classify a chunk of a product, which must be what it is where the grid is gathered."""
        config, clocks = self._config, StageClocks()
        tile = self._opened(product)
        # Most workers see the same file system: then the files need not be read as a whole by each.
        if stamp != tile.stamp and fingerprint != tile.fingerprint:
            raise BenexpError(f"{product}: a worker sees another file than here: workers need the same folders")
        patches = PatchGrid(tile.shape, self._spec.patch_size, config.chunking.stride)
        chunk = patches.chunks(config.chunking.chunk_size)[number]
        with clocks.stage("load"):
            backend = self._backend.get()
        with clocks.stage("read"):
            pixels, valid = tile.read(chunk.window)
            held = tally(pixels, valid)
        with clocks.stage("infer"):
            min_valid = config.chunking.min_valid
            answered = pipeline.classify_chunk(backend, pixels, valid, chunk, patches.patch_size, min_valid)
        bits = zlib.compress(np.packbits(valid, axis=1).tobytes(), 1)
        return Parcel(*answered, bits, held, dict(clocks.seconds), backend.describe())

    def describe(self) -> dict[str, Any]:
        """What the backend says of itself."""
        return self._backend.get().describe()

    def _opened(self, product: Path) -> Tile:
        with self._turn:
            if self._tile is None or self._at != product:
                if self._tile:
                    self._tile.close()
                self._tile, self._at = open_input(product, self._config, self._spec.bands, warn=False), product
            return self._tile


def on_its_gpu(backend: dict[str, Any], number: int | None) -> dict[str, str]:
    """Which GPU worker `number` of a machine takes where several are there and none was named: each the next one."""
    if number is None or backend.get("device") != "cuda":
        return {}
    count = gpu_count()
    return {"device": f"cuda:{number % count}"} if count > 1 else {}
