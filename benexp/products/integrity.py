"""Checks that a product's files are whole, before hours are spent on them.

Checksums of `manifest.safe` find any damage; a JPEG2000 file's structure, walked without decoding, finds truncation,
the usual damage.
"""

import hashlib
import logging
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO

from benexp.core import cores
from benexp.core.errors import BenexpError
from benexp.products.container import Container
from benexp.products.metadata import parse_xml
from benexp.products.product import Product

log = logging.getLogger("benexp")

MODES = ("auto", "checksum", "structure", "none")
MANIFEST = "manifest.safe"
ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256", "SHA256": "sha256"}
"""The names of algorithms in manifests, and in hashlib."""

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_START_OF_CODESTREAM = b"\xff\x4f"
_START_OF_TILE_PART = 0xFF90
_END_OF_CODESTREAM = 0xFFD9
_PIECE = 1 << 20


def check(product: Product, mode: str, bands: Sequence[str]) -> None:
    """Check the files of these bands, the scene classification and the metadata that the offsets are from.

    `mode`: `checksum` compares with the manifest, `structure` walks JPEG2000 files, `auto` compares what the manifest
    lists and walks the rest, `none` does nothing. Metadata are checked where the manifest lists them.

    Raises BenexpError naming the first file that is damaged, or if `checksum` is asked for and the manifest does not
    list a file of a band.
    """
    if mode not in MODES:
        raise BenexpError(f"integrity={mode}: give one of {', '.join(MODES)}")
    if mode == "none":
        return
    listed = {} if mode == "structure" else manifest_checksums(product.container)
    files = [file.file for file in (*product.band_files(bands), *([product.scl] if product.scl else []))]
    unlisted = [file for file in files if file not in listed]
    if product.metadata and product.metadata.file in listed:
        files.append(product.metadata.file)
    if mode == "checksum" and unlisted:
        raise BenexpError(
            f"{product.path} has no checksum of {unlisted[0]} in a {MANIFEST}: integrity=checksum needs it, "
            "integrity=auto does what it can"
        )
    if listed and unlisted:
        where = product.container.where(MANIFEST)
        log.warning("%s has no checksum of %s: only its structure is looked at", where, ", ".join(unlisted))

    def check_file(file: str) -> None:
        if file in listed:
            check_checksum(product.container, file, *listed[file])
        else:
            check_structure(product.container, file)

    with ThreadPoolExecutor(cores.available()) as pool:
        list(pool.map(check_file, files))


def manifest_checksums(container: Container) -> dict[str, tuple[str, str]]:
    """Algorithm (hashlib's name) and checksum of each file that the manifest lists; nothing where there is no manifest.

    Raises BenexpError if the manifest cannot be read or names an unknown algorithm.
    """
    if MANIFEST not in container.names:
        return {}
    where = container.where(MANIFEST)
    found = {}
    for stream in parse_xml(container.read_document(MANIFEST), where).iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        if location is None or checksum is None:
            continue
        name = checksum.get("checksumName", "")
        if name.upper() not in ALGORITHMS:
            raise BenexpError(f"{where} has checksums of an unknown kind ({name!r}): give integrity=structure")
        file = location.get("href", "").removeprefix("./")
        found[file] = (ALGORITHMS[name.upper()], (checksum.text or "").strip().lower())
    return found


def check_checksum(container: Container, name: str, algorithm: str, expected: str) -> None:
    """Compare the file's checksum with the expected one. Raises BenexpError if they differ."""
    digest = hashlib.new(algorithm)
    with _open_or_damaged(container, name) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != expected:
        raise _damaged(container, name, f"its {algorithm} checksum is not the one in {MANIFEST}")


def check_structure(container: Container, name: str) -> None:
    """Check that a JPEG2000 file is not cut off. Raises BenexpError if a tile is, or if the end is not marked.

    Other files pass: where a GeoTIFF is cut off, decoding fails.
    """
    size = container.size(name)
    with _open_or_damaged(container, name) as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return
        position = len(_SIGNATURE)
        try:
            while True:
                length, kind = struct.unpack(">I4s", file.read(8))
                header = 8
                if length == 1:
                    (length,) = struct.unpack(">Q", file.read(8))
                    header = 16
                end = position + length if length else size
                if not position + header <= end <= size:
                    raise _damaged(container, name, f"its part at byte {position} does not fit into its {size} bytes")
                if kind == b"jp2c":
                    _check_codestream(file, position + header, end, container, name)
                    return
                position = file.seek(end)
        except struct.error as error:
            raise _damaged(container, name, "it ends early") from error


def _check_codestream(file: BinaryIO, position: int, end: int, container: Container, name: str) -> None:
    """Walk a codestream's headers and tile-parts up to its end marker (JPEG2000, ISO/IEC 15444-1, annex A)."""
    if file.read(2) != _START_OF_CODESTREAM:
        raise _damaged(container, name, "its image does not begin where it should")
    position += 2
    while True:
        (marker,) = struct.unpack(">H", file.read(2))
        if marker == _END_OF_CODESTREAM:
            return
        (length,) = struct.unpack(">H", file.read(2))
        if marker == _START_OF_TILE_PART:
            tile, length = struct.unpack(">HI", file.read(6))
            # 0: the last one, up to the end marker.
            following = position + length if length else end - 2
            if following <= position or following > end - 2:
                raise _damaged(container, name, f"its internal tile {tile} is cut off")
        elif marker < 0xFF00:
            raise _damaged(container, name, f"something else stands where a marker should at byte {position}")
        else:
            following = position + 2 + length
        position = file.seek(following)


@contextmanager
def _open_or_damaged(container: Container, name: str) -> Iterator[BinaryIO]:
    """The file, opened. Raises BenexpError if it cannot be read, as where a zip's own checksum does not hold."""
    try:
        with container.open(name) as file:
            yield file
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _damaged(container, name, f"it cannot be read, {error}") from error


def _damaged(container: Container, name: str, how: str) -> BenexpError:
    return BenexpError(f"{container.where(name)} is damaged ({how}): download it again")
