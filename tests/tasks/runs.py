"""What tests of runs share."""

from pathlib import Path

FAST = ("model=demo", "chunking.chunk_size=200")


def files_below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
