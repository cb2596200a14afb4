"""libtiff's messages about files that cannot be written, which go to stderr past GDAL and Python."""

import ctypes
from pathlib import Path


def silence() -> None:
    """Keep libtiff from printing a line for each write that fails: GDAL reports the failure, too.

    GDAL 3.7 and newer have error handlers of their own for each file; this removes libtiff's own, which is left for
    errors of reading and writing. Without effect where the system does not list the loaded libraries.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text(errors="replace").splitlines() if maps.exists() else []
    for library in {line[line.index("/") :] for line in lines if "/libtiff" in line}:
        ctypes.CDLL(library).TIFFSetErrorHandler(None)
