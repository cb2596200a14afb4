"""Writing files so that a file that exists is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""Marks names of unfinished files; such a file is never taken for a result."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, renamed to it at the end of the block and removed on an error.

    The suffix stays last (`x.partial.tif`), because GDAL and others choose the format by it.
    """
    temporary = path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
