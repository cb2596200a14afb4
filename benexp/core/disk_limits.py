"""Limits that keep files from growing: the process's limit for the size of a file, a quota, and a full disk."""

import errno
import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benexp.core.errors import BenexpError

LIMITS = (errno.EFBIG, errno.EDQUOT, errno.ENOSPC)
_PROBE = 2**20
_PROBES = 16


def reason(error: OSError) -> str:
    """Why the system refused, in words; for the errors of LIMITS also the remedy."""
    match error.errno:
        case errno.EFBIG:
            limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
            if limit == resource.RLIM_INFINITY:
                return "the file system takes no file of this size: choose another folder"
            return f"files of this process may not grow past {limit / 1e6:g} MB: raise that limit (ulimit -f)"
        case errno.EDQUOT:
            return "your quota on that disk is used up: make room, or choose another folder"
        case errno.ENOSPC:
            return "the disk has no room left, for data or for more files: make room, or choose another folder"
        case _:
            return error.strerror or " ".join(str(error).split())


def limit_reached(unfinished: Iterable[Path]) -> OSError | None:
    """The system's error when one of these files, which are about to be removed, is to grow by 16 MiB; None if it can.

    Libraries such as GDAL fail without the number of the system's error.
    """
    for path in unfinished:
        try:
            with path.open("ab", buffering=0) as file:
                for _ in range(_PROBES):
                    file.write(bytes(_PROBE))
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in LIMITS:
                return error
    return None


@contextmanager
def limits_named(unfinished: Path, path: Path) -> Iterator[None]:
    """Turn a failure to write `unfinished` that is due to a limit into an OSError with its number and `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in LIMITS and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except BenexpError:
        raise
    except Exception as error:
        with suppress(FileNotFoundError):
            if unfinished.is_file() and (limit := limit_reached([unfinished])):
                raise OSError(limit.errno, limit.strerror, str(path)) from error
        raise
