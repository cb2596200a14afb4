"""Engines that ONNX Runtime builds and keeps in a folder by itself: it loads damaged ones without a word."""

import json
import logging
import tempfile
from pathlib import Path

from benexp.models.published import sha256

log = logging.getLogger("benexp")

_NOTES = "engines.json"


def engines_of(folder: Path) -> dict[str, int]:
    """When each engine in `folder` was written, in nanoseconds."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.engine")}


def take_note(folder: Path) -> None:
    """Write down the hashes of the engines in `folder` as they are; several processes may do so at once."""
    hashes = {file.name: sha256(file) for file in folder.glob("*.engine")}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".notes-") as scratch:
        made = Path(scratch) / _NOTES
        made.write_text(json.dumps(hashes, indent=2) + "\n")
        made.replace(folder / _NOTES)


def drop_damaged(folder: Path) -> None:
    """Delete the engines that are not as `take_note` saw them: damaged since, or never finished."""
    notes = folder / _NOTES
    hashes = json.loads(notes.read_text()) if notes.is_file() else {}
    for file in folder.glob("*.engine"):
        if hashes.get(file.name) != sha256(file):
            log.warning("%s is damaged, or was not finished: building it anew", file)
            file.unlink(missing_ok=True)
