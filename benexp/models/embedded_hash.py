"""The seal of an exported file: the hash of itself that it carries, since engines load damaged weights without a word.

It is the sha256 of all bytes, with zeros where the seal is. A model in two files is sealed in the smaller one, which
also carries the hash of the larger: an .xml that of its .bin, and the .json of a TensorRT engine that of the engine.
"""

import hashlib
import os
import re
from pathlib import Path

from benexp.models.published import sha256

SEAL = "benexp.seal"
UNSEALED = "0" * 64
"""What an exporter writes in the seal's place."""
BIN_HASH = "benexp.bin_hash"
"""sha256 of the larger of two files."""

_BEFORE = {".onnx": b"benexp.seal\x12\x40", ".xml": b'<seal value="', ".json": b'"benexp.seal": "'}
"""What comes right before the seal: in .onnx files a field's number and length."""
_BLOCK = 1 << 20
# Bytes read at once; metadata lies in the last so many.


def seal(path: Path) -> None:
    """Put the seal into a file that is written whole and has `UNSEALED`, or a seal, in its place."""
    file = _sealed_file(path)
    digest, place, _ = _read(file)
    if not place:
        raise ValueError(f"{file} has no place for a seal")
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(digest.encode())


def seal_of(path: Path) -> str | None:
    """The seal of a file as it was exported; None where one byte is another, or there is no seal. Reads all of it."""
    digest, place, carried = _read(_sealed_file(path))
    return digest if place and carried == digest.encode() else None


def is_sound(path: Path) -> bool:
    """Whether an artefact is as it was exported, with the file that belongs to it."""
    return _sealed_file(path).is_file() and seal_of(path) is not None and has_its_weights(path)


def has_its_weights(path: Path) -> bool:
    """Whether the larger file of a sound artefact in two is the one it was exported with; true of one file alone."""
    larger = path.with_suffix(".bin") if path.suffix == ".xml" else path
    sealed = _sealed_file(path)
    if larger == sealed:
        return True
    known = re.search(rb'bin_hash"?(?: value=|: )"([0-9a-f]{64})"', sealed.read_bytes())
    return known is not None and larger.is_file() and known[1].decode() == sha256(larger)


def _sealed_file(path: Path) -> Path:
    return path.with_suffix(".json") if path.suffix == ".engine" else path


def _read(path: Path) -> tuple[str, int, bytes]:
    """The hash of a file's bytes with zeros for its seal, where the seal is (0: nowhere), and what is there."""
    before = _BEFORE.get(path.suffix, _BEFORE[".onnx"])
    digest = hashlib.sha256()
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - _BLOCK)
        file.seek(start)
        end = file.read()
        found = end.rfind(before)
        if found < 0:
            return "", 0, b""
        place = found + len(before)
        file.seek(0)
        left = start
        while left and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    digest.update(end[:place] + UNSEALED.encode() + end[place + len(UNSEALED) :])
    return digest.hexdigest(), start + place, end[place : place + len(UNSEALED)]
