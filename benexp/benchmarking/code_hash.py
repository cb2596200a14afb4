"""The code that a benchmark times, as one hash: a changed program is measured anew."""

import inspect
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benexp import version
from benexp.config.hashing import digest
from benexp.models.published import sha256


def code_folders() -> list[Path]:
    """The folders of benexp and of the exporters."""
    exporters = find_spec("exporters")
    assert exporters and exporters.origin
    return [Path(version.__file__).parent, Path(exporters.origin).parent]


def code_hash(own: Iterable[type | Callable[..., Any]]) -> str:
    """sha256 of the code that runs, be it committed or not: benexp's, the exporters', and the modules that define
    `own`, a user's own backend and layers.
    """
    files = {Path(file) for made in own if (file := getattr(inspect.getmodule(made), "__file__", None))}
    for folder in code_folders():
        files |= set(folder.rglob("*.py"))
    return digest([sha256(file) for file in sorted(files)])
