"""Resuming: chunks are kept on disk as they are classified, and an interrupted run goes on from them."""

import hashlib
import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.mapping.grid import DAMAGED, Answers, Chunk, PatchGrid, check_possible, check_unpacked, packed

log = logging.getLogger("benexp")

PREFIX = ".chunks-"


class KeptChunks:
    """The classified chunks of a run that is not finished, in a hidden folder inside `folder`.

    `key` stands for all that their answers depend on. Chunks of another key are removed with a warning.
    """

    def __init__(self, folder: Path, key: str, patches: PatchGrid, classes: int) -> None:
        self._folder = folder / f"{PREFIX}{key[:16]}"
        self._patches = patches
        self._classes = classes
        self.restored = 0
        """Chunks that were taken over from an interrupted run."""
        if self._folder.is_symlink():
            raise BenexpError(f"{self._folder} is a link, to {self._folder.resolve()}: remove it")
        for other in sorted(set(folder.glob(f"{PREFIX}*")) - {self._folder}):
            log.warning("%s: configuration, input or benexp changed since the run that was interrupted: anew", folder)
            shutil.rmtree(other)

    def restore(self) -> Iterator[tuple[Chunk, Answers]]:
        """The chunks that are kept, with their answers; damaged ones are removed with a warning."""
        for path in sorted(self._folder.glob("*.npz")):
            try:
                found = self._read(path)
            except DAMAGED as error:
                log.warning("%s: %s: its patches are classified again", path, error)
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                continue
            self.restored += 1
            yield found

    def _read(self, path: Path) -> tuple[Chunk, Answers]:
        if not path.is_file():
            raise ValueError("it is no file")
        whole = path.read_bytes()
        if not path.stem.endswith(_digest(whole)):
            raise ValueError("it is damaged")
        check_unpacked(io.BytesIO(whole), self._patches)
        with np.load(io.BytesIO(whole), allow_pickle=False) as saved:
            top, bottom, left, right = map(int, saved["at"])
            if not (0 <= top < bottom <= self._patches.shape[0] and 0 <= left < right <= self._patches.shape[1]):
                raise ValueError("it is of another tile")
            chunk = self._patches.chunk(slice(top, bottom), slice(left, right), saved["wanted"])
            probabilities, classified = saved["probabilities"], saved["classified"]
            valid = np.unpackbits(saved["valid"], axis=1, count=chunk.window.width).astype(bool)
            tally = saved["tally"]
        check_possible(probabilities, classified.view(np.uint8), (*chunk.shape, self._classes))
        if valid.shape != chunk.window.shape or chunk.wanted.shape != (len(chunk.origins),):
            raise ValueError("it is of another tile")
        if tally.dtype != np.int64 or tally.ndim != 2:
            raise ValueError("it holds numbers of another kind")
        return chunk, Answers(probabilities, classified, valid, tally)

    def keep(self, chunk: Chunk, answers: Answers) -> None:
        """Save the answers for a chunk, whole or not at all."""
        self._folder.mkdir(exist_ok=True)
        rows, cols = chunk.rows, chunk.cols
        whole = packed(
            at=np.array([rows.start, rows.stop, cols.start, cols.stop]),
            wanted=chunk.wanted,
            probabilities=answers.probabilities,
            classified=answers.classified,
            valid=np.packbits(answers.valid, axis=1),
            tally=answers.tally,
        )
        path = self._folder / f"{rows.start}-{cols.start}-{_digest(whole)}.npz"
        # Not waited for until it is on the disk: one that a power cut tore is not what its name says.
        with replacing(path, durable=False) as temporary:
            temporary.write_bytes(whole)

    def remove(self) -> None:
        """Remove all chunks: the grid has them, or they are not wanted."""
        shutil.rmtree(self._folder, ignore_errors=True)


def is_work_kept(output_folder: Path, since: float) -> bool:
    """True where runs into `output_folder` left chunks, or saved a grid after `since` (seconds since 1970)."""
    grids = (path.stat().st_mtime >= since for path in output_folder.glob("**/*_grid.npz"))
    return any(output_folder.glob(f"*/{PREFIX}*")) or any(output_folder.glob(f"*/*/{PREFIX}*")) or any(grids)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
