"""The files of a product, in a folder or in a zip that is read in place."""

import hashlib
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from benexp.core.errors import BenexpError
from benexp.core.files import is_text

PIECE = 1 << 20
"""Bytes per read."""
DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes of an XML or JSON document at most: real ones have less than 1 MB, and parsing takes 100 times its size."""
FREE_SIZE = 64 * 1024 * 1024
"""Unpacked bytes of a zip's member up to which its packing ratio does not matter."""
LARGEST_RATIO = 200
"""Unpacked to packed bytes of a larger member at most: JPEG2000 packs to its own size, GeoTIFFs to about half."""


class Container:
    """The files of a product, by their paths relative to it (with `/`).

    `name` is the product's own: of the folder, or of the folder inside the zip; without `.SAFE`.
    Raises BenexpError where a name cannot be used.
    """

    def __init__(self, path: Path, name: str, names: tuple[str, ...]) -> None:
        self.path = path
        self.name = (name[: -len(".SAFE")] if name.upper().endswith(".SAFE") else name) or path.stem
        if not self.name.strip(".") or not self.name.isprintable():
            # Results go to a folder of this name, which would be another folder, or upset who lists it.
            raise BenexpError(f"{path} has no usable name ({self.name!r}): rename it")
        if not all(is_text(file) for file in (str(path), *names)):
            raise BenexpError(f"{path} has a name in it, or of a file in it, that is not in UTF-8: rename it")
        self.names = names

    def gdal_path(self, name: str) -> str:
        """The path by which GDAL opens the file."""
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        raise NotImplementedError

    def size(self, name: str) -> int:
        """Bytes, uncompressed."""
        raise NotImplementedError

    def stamp(self, name: str) -> bytes:
        """The file's inode, time of change and size: two files of one stamp are the same file, on any machine.

        A copy has the same content and another stamp.
        """
        raise NotImplementedError

    def digest(self, name: str) -> bytes:
        """sha256 of the file's content. Raises BenexpError if it cannot be read."""
        digest = hashlib.sha256()
        try:
            with self.open(name) as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise BenexpError(f"{self.where(name)} cannot be read ({error}): download it again") from error
        return digest.digest()

    def where(self, name: str) -> str:
        """The file's path for messages."""
        return f"{self.path / name}"

    def read_document(self, name: str) -> bytes:
        """The content of an XML or JSON file. Raises BenexpError if it exceeds DOCUMENT_LIMIT or cannot be read."""
        try:
            if self.size(name) > DOCUMENT_LIMIT:
                raise BenexpError(f"{self.where(name)} has {self.size(name)} bytes: that is no product metadata")
            with self.open(name) as file:
                return file.read()
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise BenexpError(f"{self.where(name)} cannot be read ({error})") from error


class FolderContainer(Container):
    """The files of a folder: its own, and those of the image folders of a .SAFE.

    Links are followed as long as they stay inside: a product from elsewhere must not name this machine's files.
    """

    PATTERNS = ("*", "GRANULE/*/IMG_DATA/*", "GRANULE/*/IMG_DATA/R*m/*")

    def __init__(self, path: Path) -> None:
        try:
            found = {file for pattern in self.PATTERNS for file in path.glob(pattern) if file.is_file()}
        except OSError as error:
            raise BenexpError(f"{path} cannot be read ({error.strerror})") from error
        names = sorted(file.relative_to(path).as_posix() for file in found if not file.name.startswith("."))
        super().__init__(path, path.name, tuple(names))

    def gdal_path(self, name: str) -> str:
        return str(self._inside(name))

    def open(self, name: str) -> BinaryIO:
        return self._inside(name).open("rb")

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def stamp(self, name: str) -> bytes:
        return _stamp(self._inside(name))

    def _inside(self, name: str) -> Path:
        """The file's path. Raises BenexpError where it is a link, or in a linked folder, that leads out."""
        path = self.path / name
        if not (real := path.resolve()).is_relative_to(self.path.resolve()):
            raise BenexpError(f"{path} is a link out of the product, to {real}: refused; put the file itself there")
        return path


class ZipContainer(Container):
    """The files of a zip, below the folder that holds the product.

    Raises BenexpError if the zip cannot be read, names a file twice or outside itself, or has a member that unpacks to
    far more than its packed size.
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise BenexpError(f"{path} cannot be read as a zip ({error}): download it again") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in members:
            name = info.filename
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise BenexpError(f"{path} names a file outside itself ({name!r}): refused")
            if name in self._members:
                # One would be verified, and the other one decoded.
                raise BenexpError(f"{path} holds two files of one name ({name!r}): refused")
            if info.file_size > max(FREE_SIZE, LARGEST_RATIO * info.compress_size):
                raise BenexpError(
                    f"{path}: {name!r} unpacks to {info.file_size} bytes from {info.compress_size}: refused, as no "
                    f"product packs like that"
                )
            self._members[name] = info
        self._root = _root([member for member in self._members if not _hidden(member)])
        names = sorted(
            member[len(self._root) :]
            for member in self._members
            if member.startswith(self._root) and not _hidden(member)
        )
        super().__init__(path, PurePosixPath(self._root).name or path.stem, tuple(names))

    def gdal_path(self, name: str) -> str:
        # In braces GDAL takes the path as it is, whatever its suffix; unpaired ones inside would confuse it.
        archive = str(self.path)
        return (
            f"/vsizip/{archive}/{self._root}{name}"
            if set("{}") & set(archive)
            else f"/vsizip/{{{archive}}}/{self._root}{name}"
        )

    def open(self, name: str) -> BinaryIO:
        with zipfile.ZipFile(self.path) as archive:
            # The member keeps the zip open for as long as it is read.
            return cast(BinaryIO, archive.open(self._root + name))

    def size(self, name: str) -> int:
        return self._members[self._root + name].file_size

    def stamp(self, name: str) -> bytes:
        return _stamp(self.path)


def open_container(path: Path) -> Container:
    """The files at `path`. Raises BenexpError if there is no folder and no zip."""
    if path.is_dir():
        return FolderContainer(path)
    if path.is_file():
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            return ZipContainer(path)
        raise BenexpError(f"{path} is a file: give a .SAFE folder, its zip or a folder of band files")
    raise BenexpError(f"{path} does not exist")


def _stamp(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError as error:
        raise BenexpError(f"{path} cannot be read ({error})") from error
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}".encode()


def _hidden(member: str) -> bool:
    """True for files that file managers leave in zips (`__MACOSX/._B02.jp2`, `.DS_Store`)."""
    parts = PurePosixPath(member).parts
    return parts[0] == "__MACOSX" or parts[-1].startswith(".")


def _root(members: list[str]) -> str:
    """The folder, with its `/`, that holds the product in a zip: the one with GRANULE in it, or the one of all files.

    `X.SAFE/GRANULE/...` -> `X.SAFE/`; `B02.tif` -> the empty string.
    """
    for member in sorted(members):
        before, inside, _ = f"/{member}".partition("/GRANULE/")
        if inside:
            return before[1:] + "/" if before else ""
    folders = {str(PurePosixPath(member).parent) for member in members}
    return f"{folders.pop()}/" if len(folders) == 1 and folders != {"."} else ""
