"""Engines that ONNX Runtime builds and keeps in a folder by itself: it loads damaged ones without a word."""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benexp.core.cache import SCRATCH, remove_scratch
from benexp.models.published import sha256

log = logging.getLogger("benexp")

_NOTES = "engines.json"


def engines_of(folder: Path) -> dict[str, int]:
    """When each engine in `folder` was written, in nanoseconds."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.engine")}


def take_note(folder: Path, before: Mapping[str, int]) -> None:
    """Write down the hashes of the engines in `folder` that are not as `engines_of` saw them `before`.

    What was noted of the others stands. Several processes may do so at once: a note that is lost costs a rebuild.
    """
    noted = _noted(folder)
    hashes = {}
    for name, written in engines_of(folder).items():
        if before.get(name) != written:
            hashes[name] = sha256(folder / name)
        elif name in noted:
            hashes[name] = noted[name]
    remove_scratch(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        made = Path(scratch) / _NOTES
        made.write_text(json.dumps(hashes, indent=2) + "\n")
        made.replace(folder / _NOTES)


def drop_damaged(folder: Path) -> None:
    """Delete the engines that are not as `take_note` saw them: damaged since, or never finished."""
    hashes = _noted(folder)
    for file in folder.glob("*.engine"):
        if hashes.get(file.name) != sha256(file):
            log.warning("%s is damaged, or was not finished: building it anew", file)
            file.unlink(missing_ok=True)


def _noted(folder: Path) -> dict[str, str]:
    """The hash of each engine that was noted; none where the notes cannot be read."""
    notes = folder / _NOTES
    try:
        hashes = json.loads(notes.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:  # neither JSON nor text
        hashes = None
    if isinstance(hashes, dict):
        return hashes
    log.warning("%s is damaged: taking no engine beside it for whole", notes)
    return {}
