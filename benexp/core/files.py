"""Files that are complete where they exist, and locks."""

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from benexp.core.disk_limits import limits_named
from benexp.core.errors import BenexpError

log = logging.getLogger("benexp")

LOCK = ".lock"
PARTIAL = ".partial"
"""Marks names of unfinished files; such a file is never taken for a result."""
_OWN = re.compile(rf"{re.escape(PARTIAL)}-[0-9a-f]{{8}}(\.[^.]*)?$")
_DAY = 24 * 60 * 60


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to, renamed to it at the end of the block and removed on an error.

    No other writer of the same file has it; the suffix stays last (`x.partial-1a2b3c4d.tif`), because GDAL and others
    choose the format by it. Without `durable` the file may be torn by a power cut soon after: for files that are
    checked when they are read, in a folder that is removed as a whole.
    """
    if durable:
        _remove_partial(path.parent, path.stem, age=_DAY)
    temporary = path.with_name(f"{path.stem}{PARTIAL}-{secrets.token_hex(4)}{path.suffix}")
    try:
        with limits_named(temporary, outside_staging(path)):
            yield temporary
            if durable:
                sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_partial(folder: Path, stem: str = "", age: float = 0) -> None:
    """Remove what `replacing` left in `folder` where a process was killed, if it is `age` seconds old."""
    for left in folder.glob(f"{escape(stem)}*{PARTIAL}-*"):
        with suppress(FileNotFoundError):  # its owner was done with it
            # A file that several runs write in turn has a lock of its own.
            locked_file = (folder / f".{left.name.partition(PARTIAL)[0]}{LOCK}").exists()
            if _OWN.search(left.name) and not locked_file and left.lstat().st_mtime <= time.time() - age:
                left.unlink()


def sync(path: Path) -> None:
    """Return once the content of a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems, as of networks, do not take it for folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on `path`, a file made for this, and hold it; the system frees it however the holder ends."""
    while True:
        with open(path, "w", opener=_no_link) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                _warn_of_no_lock(path.parent, error)
            if not _has_its_name(file, path):
                continue  # its holder removed it before it was ours
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_text(path: str | Path) -> bool:
    """True for a path in UTF-8, which GDAL, pages and records need: the names of a file system may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def identity(path: Path) -> list[int] | None:
    """Numbers that change when the file is replaced, on whichever machine; None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_mtime_ns]


STAGING = ".unfinished-"


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder` to build results in, removed at the end with whatever was not moved out of it.

    The remains of a run that died are removed first. Raises BenexpError while another run is building there.
    """
    with alone_in(folder):
        for left in folder.glob(f"{STAGING}*"):
            shutil.rmtree(left)
        own = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        try:
            yield own
        finally:
            shutil.rmtree(own)


def outside_staging(path: Path) -> Path:
    """The path that a file built in `staging` is published under, to name in messages."""
    return Path(*(part for part in path.parts if not part.startswith(STAGING)))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, a file in it; the system frees the lock however the run ends.

    Unfinished files of a run that died are removed first. Raises BenexpError while another run holds the lock. It is a
    file because a folder on NFS cannot be locked.
    """
    path = folder / LOCK
    while True:
        with open(path, "w", opener=_no_link) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BenexpError(
                    f"{folder}: another run is writing there: wait for it, or name another folder"
                ) from None
            except OSError as error:
                _warn_of_no_lock(folder, error)
            if not _has_its_name(file, path):
                continue  # its holder removed it before it was ours
            try:
                _remove_partial(folder)
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _warn_of_no_lock(folder: Path, error: OSError) -> None:
    """As on Lustre without its option `flock`."""
    log.warning("%s cannot be locked (%s): see that no other run writes there", folder, error.strerror)


def _no_link(path: str, flags: int) -> int:
    """Open a file for writing, but not through a link, nor a pipe, which would wait for a reader."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _has_its_name(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
