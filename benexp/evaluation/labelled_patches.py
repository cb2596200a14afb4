"""Labelled BigEarthNet v2 patches: a folder of them or their LMDB, and the table with labels and splits."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from benexp.core.errors import BenexpError, one_line
from benexp.products.blocks import GDAL_OPTIONS, open_dataset
from benexp.products.finding import open_product
from benexp.products.patches import is_patch_name

Patch = tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]
"""Model DN [bands, size, size], 0 where a band has no data, and the valid pixels [size, size]: as a tile's window."""

GIVE = "give a folder of BigEarthNet v2 patches (<patch>/<patch>_B02.tif, at any depth) or their LMDB"


class Patches(Protocol):
    """Patches by their names. Any thread may read; a band that is missing or damaged raises BenexpError."""

    @property
    def names(self) -> Collection[str]: ...

    def read(self, name: str, bands: Sequence[str], size: int) -> Patch: ...


def open_patches(path: Path) -> Patches:
    """The patches at `path`. Raises BenexpError where there are none."""
    found: Patches
    if path.is_file() or (path / "data.mdb").is_file():
        found = LmdbPatches(path)
    elif path.is_dir():
        found = FolderPatches(path)
    else:
        raise BenexpError(f"{path} does not exist: {GIVE}")
    if not found.names:
        raise BenexpError(f"{path} holds no patches: {GIVE}")
    return found


class FolderPatches:
    """Patch folders, at any depth below `path`."""

    def __init__(self, path: Path) -> None:
        self._paths: dict[str, Path] = {}

        def refuse(error: OSError) -> None:
            raise BenexpError(f"{error.filename}: cannot be read: {error.strerror}") from error

        for folder, below, _ in os.walk(path, onerror=refuse):
            for name in filter(is_patch_name, below):
                if name in self._paths:
                    raise BenexpError(f"{path} has {name} twice: {self._paths[name].parent} and {folder}")
                self._paths[name] = Path(folder) / name
            below[:] = [name for name in below if name not in self._paths]

    @property
    def names(self) -> Collection[str]:
        return self._paths.keys()

    def read(self, name: str, bands: Sequence[str], size: int) -> Patch:
        # Not as a tile, whose threads and caches cost many times what a patch takes to read.
        path = self._paths[name]
        arrays = {}
        for file in open_product(path).band_files(bands):
            try:
                with rasterio.Env(**GDAL_OPTIONS), open_dataset(file) as raster:
                    arrays[file.name] = raster.read(1)
                    nodata = raster.nodata
            except RasterioError as error:
                raise BenexpError(f"{file.path}: cannot be read: {' '.join(str(error).split())}") from error
            if nodata:
                arrays[file.name][arrays[file.name] == nodata] = 0
        return _patch(arrays, bands, size, f"{path}")


class LmdbPatches:
    """Patches in an LMDB: a safetensors value of band -> array at native size under each patch's name."""

    def __init__(self, path: Path) -> None:
        try:
            import lmdb
            import safetensors.numpy
        except ImportError as error:
            raise BenexpError(f"{path}: reading an LMDB needs {error.name}: pip install 'benexp[evaluate]'") from error
        self._path = path
        self._load = safetensors.numpy.load
        try:
            # Without a lock: nobody writes, and the folder may be on a read-only disk.
            self._environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                keys = [key.decode(errors="replace") for key in cursor.iternext(keys=True, values=False)]
        except lmdb.Error as error:
            raise BenexpError(f"{path}: cannot be read as an LMDB ({one_line(error)}): {GIVE}") from error
        # Beside them lie the Sentinel-1 patches.
        self._names = {key for key in keys if is_patch_name(key)}

    @property
    def names(self) -> Collection[str]:
        return self._names

    def read(self, name: str, bands: Sequence[str], size: int) -> Patch:
        with self._environment.begin() as transaction:
            value = transaction.get(name.encode())
        try:
            arrays = self._load(value or b"")
        # Damaged bytes raise whatever the parser stumbles over.
        except Exception as error:
            raise BenexpError(f"{self._path}: {name} is damaged: {one_line(error)}") from error
        if missing := [band for band in bands if band not in arrays]:
            raise BenexpError(
                f"{self._path}: {name} lacks the bands {', '.join(missing)} (found: {', '.join(sorted(arrays))})"
            )
        return _patch(arrays, bands, size, f"{self._path}: {name}")


def _patch(arrays: Mapping[str, npt.NDArray[Any]], bands: Sequence[str], size: int, where: str) -> Patch:
    """Bands at native size on the 10 m grid, by nearest."""
    chunk = np.empty((len(bands), size, size), np.uint16)
    for target, band in zip(chunk, bands, strict=True):
        array = arrays[band]
        side = len(array) if array.ndim == 2 else 0
        if not side or array.shape[1] != side or size % side or array.dtype != np.uint16:
            raise BenexpError(
                f"{where}: {band} is {array.dtype} {'x'.join(map(str, array.shape))}: a patch is uint16, square, and "
                f"{size} pixels a side is a multiple of its own"
            )
        target[:] = array.repeat(size // side, axis=0).repeat(size // side, axis=1)
    return chunk, (chunk != 0).all(axis=0)


class Labelled(NamedTuple):
    """A row of the metadata."""

    labels: tuple[str, ...]
    """Names of classes; none where the patch has no labels."""
    split: str | None


def read_metadata(path: Path, with_split: bool) -> Mapping[str, Labelled]:
    """The rows of a metadata.parquet by the patches' names; `split` is None unless asked for.

    Raises BenexpError where it cannot be read, lacks a column, or has a patch twice.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BenexpError(
            f"{path}: reading a parquet file needs {error.name}: pip install 'benexp[evaluate]'"
        ) from error
    columns = ["patch_id", "labels", *(["split"] if with_split else [])]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if missing := [column for column in columns if column not in file.schema_arrow.names]:
                raise BenexpError(
                    f"{path} lacks the columns {', '.join(missing)} (found: {', '.join(file.schema_arrow.names)}): "
                    f"give the metadata.parquet of BigEarthNet v2"
                )
            table = file.read(columns).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise BenexpError(f"{path}: cannot be read as a parquet file: {one_line(error)}") from error
    names = table["patch_id"]
    splits = table["split"] if with_split else [None] * len(names)
    rows = {
        name: Labelled(tuple(labels or ()), split)
        for name, labels, split in zip(names, table["labels"], splits, strict=True)
    }
    if len(rows) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BenexpError(f"{path} has {twice} twice: leave one of the rows")
    return rows
