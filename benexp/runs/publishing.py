"""Moving finished files to their names, the record last: an interruption leaves nothing that is taken for whole."""

import json
import logging
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol

from benexp.core.errors import one_line
from benexp.core.files import replacing, sync
from benexp.records.names import RUN
from benexp.records.run import FileRecord
from benexp.records.storage import to_dict, to_json

log = logging.getLogger("benexp")


class HasFiles(Protocol):
    """A record that names the files beside it."""

    @property
    def files(self) -> Mapping[str, FileRecord]: ...


def publish(files: Sequence[Path], folder: Path, record: HasFiles, name: str = RUN) -> None:
    """Move finished files to `folder` and write the record last, as `name`: in this order on the disk, too.

    Files of earlier runs that this one did not make, such as other layers, are removed, however those runs ended.
    """
    path = folder / name
    journal = journal_of(path)
    for file in files:
        sync(file)
    now, left, earlier = to_dict(record), _read(journal), _read(path)
    before, made = {**left.get("files", {}), **earlier.get("files", {})}, now["files"]
    with replacing(path) as temporary:
        # Where there is no room for it, the earlier results are still whole.
        temporary.write_bytes(to_json(record))
        # Until the record is there, this is what tells the next run of files that no record names.
        with replacing(journal) as unfinished:
            unfinished.write_bytes(to_json((earlier or left or now) | {"files": made | before}))
        # From here on results of an earlier run are replaced: its record no longer holds.
        path.unlink(missing_ok=True)
        sync(folder)
        for old in before.keys() - made.keys():
            # Beside the new ones it would be taken for one of them.
            (folder / old).unlink(missing_ok=True)
        for file in files:
            file.replace(folder / file.name)
        sync(folder)
    journal.unlink()


def journal_of(path: Path) -> Path:
    """The record that stands for the one at `path` while results are replaced: the earlier one, with all files."""
    return path.with_name(f".{path.name}")


def _read(path: Path) -> dict[str, Any]:
    """The content of the record at `path`; empty where it is no record, which is warned about."""
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # Else a record from elsewhere would have files anywhere removed.
        if strange := [name for name in dict(content["files"]) if name in ("", ".", "..") or "/" in name]:
            raise ValueError(f"it names {strange[0]!r}, which is no file beside it")
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is no record of benexp (%s): it is replaced", path, one_line(error))
        return {}
    return content


def describe_file(path: Path) -> FileRecord:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        return FileRecord(path.stat().st_size, file_digest(file, "sha256").hexdigest())
