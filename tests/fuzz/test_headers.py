"""Any change to the headers of JPEG2000 and GeoTIFF files: a map, or one clear line; never much memory or time.

Where no manifest lists the files, a changed header may be as true as the one that it was: that there is a map, or one
line, in bounds, is all that can be asked. (test_metadata.py is about files that a manifest lists.)
"""

import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.effort import EFFORTS, Effort
from tests.fuzz.world import World
from tests.products.builders import random_arrays, write_folder, write_safe

Field = tuple[str, int, str]
"""What a number is called, where it lies, and its struct format."""
SIZE = (180, 180)
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 63, 64, 65, 90, 128, 179, 180, 181, 255, 256, 1024, 4096, 10980, 32767, 32768, 65535)
LARGE = (65536, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 48, (1 << 63) - 1, (1 << 64) - 1)


def jpeg2000_fields(content: bytes) -> list[Field]:
    """Lengths and kinds of boxes, and the fields of the codestream's markers (ISO/IEC 15444-1, annexes A and I)."""
    found: list[Field] = []
    position = 0
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        found += [(f"{kind!r}.length", position, ">I"), (f"{kind!r}.kind", position + 4, ">I")]
        if kind == b"jp2h":
            found += [(f"ihdr.{n}", position + 16 + n, ">I") for n in (0, 4)] + [("ihdr.bands", position + 24, ">H")]
            found += [(f"jp2h.{n}", position + 26 + n, "B") for n in range(24)]
        if kind == b"jp2c":
            return found + _codestream(content, position + 8)
        position += length
    raise AssertionError("there is no codestream")


def _codestream(content: bytes, position: int) -> list[Field]:
    found: list[Field] = []
    position += 2
    while True:
        marker, length = struct.unpack_from(">HH", content, position)
        name = f"{marker:04x}"
        found += [(name, position, ">H"), (f"{name}.length", position + 2, ">H")]
        body = position + 4
        if marker == 0xFF51:  # SIZ
            found += [("SIZ.Rsiz", body, ">H"), *((f"SIZ.{n}", body + 2 + 4 * n, ">I") for n in range(8))]
            found += [("SIZ.Csiz", body + 34, ">H"), *((f"SIZ.band{n}", body + 36 + n, "B") for n in range(3))]
        elif marker == 0xFF90:  # SOT
            found += [("SOT.tile", body, ">H"), ("SOT.length", body + 2, ">I"), ("SOT.part", body + 6, "B")]
            found += [("SOT.parts", body + 7, "B")]
            (part,) = struct.unpack_from(">I", content, body + 2)
            position += part
            if content[position : position + 2] != b"\xff\x90":
                return found
            continue
        else:  # COD, QCD, TLM, COM
            found += [(f"{name}.{n}", body + n, "B") for n in range(min(length - 2, 24))]
        position += 2 + length


def tiff_fields(content: bytes) -> list[Field]:
    """The entries of the first directory of a little-endian classic TIFF, and what they point to."""
    (position,) = struct.unpack_from("<I", content, 4)
    found: list[Field] = [("order", 0, "<H"), ("version", 2, "<H"), ("directory", 4, "<I"), ("entries", position, "<H")]
    (entries,) = struct.unpack_from("<H", content, position)
    sizes = {1: ("B", 1), 2: ("B", 1), 3: ("<H", 2), 4: ("<I", 4), 12: ("<d", 8)}
    for entry in range(position + 2, position + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from("<HHI", content, entry)
        found += [(f"{tag}.tag", entry, "<H"), (f"{tag}.type", entry + 2, "<H"), (f"{tag}.count", entry + 4, "<I")]
        found += [(f"{tag}.value", entry + 8, "<I")] * 2
        form, size = sizes.get(kind, ("B", 1))
        if count * size > 4:
            (values,) = struct.unpack_from("<I", content, entry + 8)
            found += [(f"{tag}[{n}]", values + n * size, form) for n in range(min(count, 16))]
    return [*found, ("next", position + 2 + 12 * entries, "<I")]


@st.composite
def changes(draw: st.DrawFn, fields: Sequence[Field], head: int) -> tuple[str, Callable[[bytearray], None]]:
    """A few fields with other numbers, or flipped bytes in the `head`; in words, and as a function of the content."""
    steps: list[tuple[str, int, str, int | float]] = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)):
            name, position, form = draw(st.sampled_from(fields))
            bits = 8 * struct.calcsize(form)
            if form == "<d":
                numbers = st.sampled_from(
                    [0.0, -10.0, 10.0001, 20.0, 60.0, 1e-300, 1e300, 6e5, 6e5 + 10, float("nan"), float("inf")]
                )
                steps.append((name, position, form, draw(numbers)))
                continue
            whole = st.one_of(
                st.sampled_from([n for n in (*NUMBERS, *LARGE) if n < 1 << bits]), st.integers(0, (1 << bits) - 1)
            )
            steps.append((name, position, form, draw(whole)))
        else:
            steps.append(("byte", draw(st.integers(0, head - 1)), "B", draw(st.integers(0, 255))))

    def change(content: bytearray) -> None:
        for _, position, form, number in steps:
            if position + struct.calcsize(form) > len(content):  # of a file of another size
                continue
            struct.pack_into(form, content, position, number)

    return repr(steps), change


def with_bands_changed(
    product: Path, folder: Path, pattern: str, change: Callable[[bytearray], None]
) -> tuple[Path, bool]:
    """A copy of the product with the files of a pattern changed, and whether anything is another."""
    made = folder / product.name
    shutil.copytree(product, made, copy_function=os.link)
    another = False
    for file in made.rglob(pattern):
        before = file.read_bytes()
        content = bytearray(before)
        change(content)
        another |= content != before
        file.unlink()
        file.write_bytes(content)
    return made, another


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG2000 files of nine internal tiles."""
    return write_safe(tmp_path_factory.mktemp("jpeg2000"), arrays=random_arrays(SIZE), size=SIZE)


@pytest.fixture(scope="module", params=["none", "deflate"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GeoTIFF files of nine internal tiles."""
    return write_folder(tmp_path_factory.mktemp("geotiff") / "x", arrays=random_arrays(SIZE), compress=request.param)


@pytest.mark.parametrize("effort", EFFORTS)
def test_jpeg2000_headers(effort: Effort, world: World, safe: Path) -> None:
    untouched = world.run(f"tile_folder={safe}").map_hash
    assert untouched
    content = next(safe.rglob("*_B02_10m.jp2")).read_bytes()
    fields = jpeg2000_fields(content)

    def holds(given: tuple[tuple[str, Callable[[bytearray], None]], str, str]) -> None:
        (words, change), pattern, integrity = given
        try:
            product, another = with_bands_changed(safe, world.products, pattern, change)
            outcome = world.run(f"tile_folder={product}", f"integrity={integrity}")
        finally:
            shutil.rmtree(world.products / safe.name)
        assert outcome.code == 1 or outcome.map_hash, words
        assert another or outcome.map_hash == untouched, words

    given = st.tuples(
        changes(fields, 1024),
        st.sampled_from(["*_B02_10m.jp2", "*_10m.jp2", "*.jp2"]),
        st.sampled_from(["auto", "structure", "none"]),
    )
    effort.tries(10, given, holds)


@pytest.mark.parametrize("effort", EFFORTS)
def test_geotiff_headers(effort: Effort, world: World, folder: Path) -> None:
    assert world.run(f"tile_folder={folder}", "offset=none").map_hash
    fields = tiff_fields((folder / "B02.tif").read_bytes())

    def holds(given: tuple[tuple[str, Callable[[bytearray], None]], str]) -> None:
        (words, change), pattern = given
        try:
            product, _ = with_bands_changed(folder, world.products, pattern, change)
            outcome = world.run(f"tile_folder={product}", "offset=none")
        finally:
            shutil.rmtree(world.products / folder.name)
        assert outcome.code == 1 or outcome.map_hash, words

    effort.tries(5, st.tuples(changes(fields, 1024), st.sampled_from(["B02.tif", "B0[2348].tif", "*.tif"])), holds)
