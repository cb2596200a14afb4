"""The hash that an exported file carries of itself: engines load damaged weights without an error.

It is the sha256 of all bytes, with zeros in the place of the hash. Of a model in two files the smaller one carries it,
and the hash of the larger as well: an .xml that of its .bin, the .json of a TensorRT engine that of the engine.
"""

import hashlib
import os
import re
from pathlib import Path

from benexp.models.published import sha256

HASH_KEY = "benexp.seal"
NO_HASH = "0" * 64
"""The placeholder that an exporter writes."""
BIN_HASH = "benexp.bin_hash"
"""sha256 of the larger of two files."""

_BEFORE = {".onnx": b"benexp.seal\x12\x40", ".xml": b'<seal value="', ".json": b'"benexp.seal": "'}
"""The bytes right before the hash: in .onnx files a field's number and length."""
_BLOCK = 1 << 20
# Bytes read at once; metadata lies in the last so many.


def embed_hash(path: Path) -> None:
    """Write the hash into a complete file, over `NO_HASH` or an earlier hash."""
    file = _hashed_file(path)
    digest, place, _ = _read(file)
    if not place:
        raise ValueError(f"{file} has no place for a hash")
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(digest.encode())


def embedded_hash(path: Path) -> str | None:
    """The hash that a file carries; None where it has none, or its bytes have changed. Reads the whole file."""
    digest, place, carried = _read(_hashed_file(path))
    return digest if place and carried == digest.encode() else None


def is_sound(path: Path) -> bool:
    """True if an artefact, with the file that belongs to it, is as it was exported."""
    return _hashed_file(path).is_file() and embedded_hash(path) is not None and has_its_weights(path)


def has_its_weights(path: Path) -> bool:
    """True if a sound artefact is a single file, or if the larger of its two files is the one it was exported with."""
    larger = path.with_suffix(".bin") if path.suffix == ".xml" else path
    hashed = _hashed_file(path)
    if larger == hashed:
        return True
    known = re.search(rb'bin_hash"?(?: value=|: )"([0-9a-f]{64})"', hashed.read_bytes())
    return known is not None and larger.is_file() and known[1].decode() == sha256(larger)


def _hashed_file(path: Path) -> Path:
    return path.with_suffix(".json") if path.suffix == ".engine" else path


def _read(path: Path) -> tuple[str, int, bytes]:
    """The hash of a file with zeros in its place, that place (0: none), and the bytes there."""
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
    digest.update(end[:place] + NO_HASH.encode() + end[place + len(NO_HASH) :])
    return digest.hexdigest(), start + place, end[place : place + len(NO_HASH)]
