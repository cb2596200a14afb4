"""Any change to a product's metadata: the map of what it says now, or one clear line."""

import copy
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
import rasterio
from hypothesis import strategies as st

from tests.fuzz.effort import EFFORTS, Effort
from tests.fuzz.world import World
from tests.products.builders import BAND_IDS, TEN, write_folder

VALUES = (
    *("", " ", "nan", "NaN", "inf", "-inf", "1e999", "-1e999", "1e308", "9" * 400, "-1", "0", "-0.0", "1", "7"),
    *("-1000.4", "65535", "-65536", "1e9", "-1e9", "10000", "1e4", "0.4", "0x10", "1_000", "١٢", "-1000", "-999"),
    *("-500", "abc", "é", "\u202e", "04.00", "03.99", "99.99", "5.9", "00.01", "05.09", "<x/>", "../../x"),
    *("x" * 3000, "S2A_MSIL1C_x.SAFE", "null", "-1000 "),
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "ascii", "cp037", "utf-7")
DECLARED = (*ENCODINGS, "nonsense", "", "shift_jis", "big5", "idna", "base64", "rot13", "x" * 300)

PLACES = st.integers(0, 59)
"""Which element: there are as many."""

Change = Callable[[bytes], bytes]


def _elements(root: Element) -> list[tuple[Element, Element]]:
    """Every element below, with its parent."""
    return [(parent, child) for parent in root.iter() for child in parent]


@st.composite
def trees(draw: st.DrawFn) -> Change:
    """A change of the elements, drawn when it meets a document."""
    kinds = st.sampled_from(
        ["delete", "double", "move", "text", "text", "text", "attribute", "attribute", "rename", "nest", "odd double"]
    )
    steps = draw(st.lists(st.tuples(kinds, PLACES, PLACES, st.sampled_from(VALUES)), min_size=1, max_size=3))

    def change(document: bytes) -> bytes:
        root = ElementTree.fromstring(document)
        for kind, where, where_to, value in steps:
            pairs = _elements(root)
            if not pairs:
                break
            parent, child = pairs[where % len(pairs)]
            if kind == "delete":
                parent.remove(child)
            elif kind == "double":
                parent.append(copy.deepcopy(child))
            elif kind == "odd double":
                parent.insert(0, copy.deepcopy(child))
                child.text = value
            elif kind == "move":
                parent.remove(child)
                parents = list(root.iter())
                parents[where_to % len(parents)].append(child)
            elif kind == "text":
                leaves = [element for element in root.iter() if not len(element)]
                leaves[where % len(leaves)].text = value
            elif kind == "attribute":
                having = [element for element in root.iter() if element.attrib]
                if having:
                    element = having[where % len(having)]
                    names = list(element.attrib)
                    element.attrib[names[where_to % len(names)]] = value
            elif kind == "rename":
                child.tag = pairs[where_to % len(pairs)][1].tag
            else:
                parent.remove(child)
                for _ in range(500):
                    parent = ElementTree.SubElement(parent, "x")
                parent.append(child)
        return ElementTree.tostring(root, "utf-8", xml_declaration=True)

    change.__qualname__ = f"tree{steps!r:.400}"
    return change


@st.composite
def texts(draw: st.DrawFn) -> Change:
    """A change of the bytes."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "encode", "declare", "dtd"]))
    where = draw(st.integers(0, 10_000))
    junk = draw(
        st.sampled_from(
            [b"\0", b"<", b"]]>", b"&#0;", b"&x;", b"<!-- ", b"\xff", b"<![CDATA[1]]>", b"<?x y?>", b"&#1000000000;"]
        )
    )
    flip = draw(st.integers(1, 255))
    encoding, declared = draw(st.sampled_from(ENCODINGS)), draw(st.sampled_from(DECLARED))

    def change(document: bytes) -> bytes:
        place = where % len(document)
        if kind == "cut":
            return document[:place]
        if kind == "flip":
            return document[:place] + bytes([document[place] ^ flip]) + document[place + 1 :]
        if kind == "insert":
            return document[:place] + junk + document[place:]
        if kind == "dtd":
            return document.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/hostname">]>', 1)
        text = document.decode().replace('encoding="UTF-8"', f'encoding="{declared}"', 1)
        return text.encode(encoding if kind == "encode" else "utf-8")

    change.__qualname__ = f"text({kind}, {where}, {junk!r}, {flip}, {encoding}, {declared})"
    return change


def flips() -> st.SearchStrategy[Change]:
    """Another byte anywhere in a file of any size."""

    def of(place: int, mask: int) -> Change:
        def change(content: bytes) -> bytes:
            at = place % len(content)
            return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]

        change.__qualname__ = f"flip({place}, {mask})"
        return change

    return st.builds(of, st.integers(0, 1 << 20), st.integers(1, 255))


@contextmanager
def changed(product: Path, folder: Path, file: str, change: Change, *, listed: bool) -> Iterator[Path]:
    """A copy of the product with one file changed; `listed` leaves the manifest as it was."""
    made = folder / product.name
    shutil.copytree(product, made, copy_function=os.link)
    try:
        content = change((made / file).read_bytes())
        (made / file).unlink()
        (made / file).write_bytes(content)
        if not listed:
            (made / "manifest.safe").unlink()
        yield made
    finally:
        shutil.rmtree(made)


def said(document: bytes) -> tuple[Mapping[str, int], int] | None:
    """The offsets of the model's bands and the quantification, where the document says them beyond doubt."""
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    found: dict[str, set[str]] = {}
    for element in root.iter():
        name = str(element.tag).rpartition("}")[2]
        name += element.get("band_id", "") if name.endswith("ADD_OFFSET") else ""
        found.setdefault(name, set()).add((element.text or "").strip())
    try:
        scale = _number(found.get("BOA_QUANTIFICATION_VALUE", {"10000"}))
        if not any(
            name.startswith("BOA_ADD_OFFSET") and name[len("BOA_ADD_OFFSET") :] != "_VALUES_LIST" for name in found
        ):
            (baseline,) = found["PROCESSING_BASELINE"]
            return (dict.fromkeys(TEN, 0), scale) if baseline < "04.00" else None
        return {band: _number(found[f"BOA_ADD_OFFSET{BAND_IDS.index(band)}"]) for band in TEN}, scale
    except (KeyError, ValueError, OverflowError):
        return None


def _number(texts: set[str]) -> int:
    (number,) = {round(float(text)) for text in texts}
    return number


class Maps:
    """The maps that should come out, made of the bands in another way: as files of model DN that need no metadata."""

    def __init__(self, world: World, product: Path) -> None:
        self._world = world
        self._product = product
        self._known: dict[tuple[tuple[int, ...], int], str | None] = {}

    def of(self, offsets: Mapping[str, int], scale: int) -> str | None:
        key = (tuple(offsets.values()), scale)
        if key not in self._known:
            arrays = {}
            for band in TEN:
                with rasterio.open(next(self._product.rglob(f"*_{band}_?0m.jp2"))) as file:
                    stored = file.read(1)
                wanted = np.rint((stored.astype(float) + offsets[band]) * 10000 / scale)
                arrays[band] = np.where(stored == 0, 0, np.clip(wanted, 1, 65535)).astype(np.uint16)
            folder = write_folder(self._world.products / "expected", arrays=arrays)
            # Clipping makes numbers of 65535, which no sensor saturated.
            self._known[key] = self._world.run(f"tile_folder={folder}", "offset=none", "saturated=keep").map_hash
            shutil.rmtree(folder)
        return self._known[key]


@pytest.mark.parametrize("effort", EFFORTS)
def test_metadata_of_the_product(effort: Effort, world: World, demo: Path) -> None:
    maps = Maps(world, demo)
    original = (demo / "MTD_MSIL2A.xml").read_bytes()
    assert (expected := said(original)) and set(expected[0].values()) == {-1000}
    assert world.run(f"tile_folder={demo}").map_hash == maps.of(*expected)

    def holds(change: Change) -> None:
        with changed(demo, world.products, "MTD_MSIL2A.xml", change, listed=False) as product:
            document = (product / "MTD_MSIL2A.xml").read_bytes()
            outcome = world.run(f"tile_folder={product}")
        if outcome.code == 0:
            expected = said(document)
            assert expected, f"a map where nothing is sure: {change.__qualname__}\n{outcome}"
            assert outcome.map_hash == maps.of(*expected), f"{change.__qualname__}\n{expected}\n{outcome}"

    effort.tries(10, st.one_of(trees(), trees(), texts()), holds)


@pytest.mark.parametrize("effort", EFFORTS)
def test_metadata_that_the_manifest_lists(effort: Effort, world: World, demo: Path) -> None:
    """A manifest that is not as it was: the untouched map, or an error; a file that it lists: an error."""
    untouched = world.run(f"tile_folder={demo}").map_hash
    bands = [str(file.relative_to(demo)) for file in sorted(demo.rglob("*_B*.jp2"))]

    def holds(given: tuple[str, Change]) -> None:
        file, change = given
        with changed(demo, world.products, file, change, listed=True) as product:
            same = (product / file).read_bytes() == (demo / file).read_bytes()
            outcome = world.run(f"tile_folder={product}")
        if outcome.code == 0:
            assert outcome.map_hash == untouched, f"{file}: {change.__qualname__}\n{outcome}"
            assert same or file == "manifest.safe", f"{file}: {change.__qualname__}\n{outcome}"

    texts_of = st.tuples(st.sampled_from(["manifest.safe", "MTD_MSIL2A.xml"]), st.one_of(trees(), texts()))
    effort.tries(8, st.one_of(texts_of, st.tuples(st.sampled_from(bands), flips())), holds)
