"""Any name that a file system takes, for a product and for the folder of results: the same map, or one clear line."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.effort import EFFORTS, Effort
from tests.fuzz.world import World

SPECIAL = (
    *("-x", "--help", "-m", "~", "~root", "$HOME", "${output_folder}", "${oc.env:HOME}", "a=b", "a,b", "[a]", "{a}"),
    *("(a)", "a b", " a", "a ", "a.", "...", ".a", "..a", ".SAFE", ".partial", "x.partial", ".unfinished-x", "_"),
    *("null", "None", "'", '"', "a'b\"c", "`id`", "$(id)", "a;b", "a|b", "a&b", "a>b", "a\\b", "\\", "*", "?", "a*b"),
    *("#", "%", "%20", "%s", "<b>x</b>", "<script>alert(1)</script>", "&amp;", "</script>", "{{ 7*7 }}", "{% x %}"),
    *("a\nb", "a\rb", "a\tb", "\x01", "\x1b[31mred", "\x7f", "a\nbenexp: error: b", "é", "e\u0301", "\u202eabc"),
    *("\u200b", "\U0001f30d", "Ω" * 100, "x" * 255, "x" * 250, "x" * 240, "x" * 230, "x" * 200, "CON", "x.zip"),
    *("x.tif", "GRANULE", "IMG_DATA", "outputs", "jobs", "S2A_MSIL1C_", "http:", "vsizip", "x_N0204_x", "_class"),
    *("\udcff", "a\udc80b", "S2A_MSIL2A_20230625T234621_N0204_R073", "__MACOSX"),
)  # fmt: skip


def _fits(name: str) -> bool:
    return 0 < len(os.fsencode(name)) < 256 and "/" not in name and "\0" not in name and name not in (".", "..")


NAMES = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.binary(min_size=1, max_size=12).map(os.fsdecode),
    st.tuples(st.sampled_from(SPECIAL), st.sampled_from(SPECIAL)).map("".join),
).filter(_fits)


@contextmanager
def named(product: Path, folder: Path, name: str) -> Iterator[Path]:
    """The product under another name, without a copy of its files."""
    made = folder / name
    shutil.copytree(product, made, copy_function=os.link)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.mark.parametrize("effort", EFFORTS)
def test_names_of_products(effort: Effort, world: World, demo: Path) -> None:
    untouched = world.run(f"tile_folder={demo}").map_hash
    suffixes = st.sampled_from(["", ".SAFE", ".safe"])

    def holds(name: str) -> None:
        with named(demo, world.products, name) as product:
            outcome = world.run(f"tile_folder={product}")
        if outcome.code == 0:
            assert outcome.map_hash == untouched, outcome

    effort.tries(8, st.tuples(NAMES, suffixes).map("".join).filter(_fits), holds)


@pytest.mark.parametrize("effort", EFFORTS)
def test_names_of_output_folders(effort: Effort, world: World, demo: Path) -> None:
    untouched = world.run(f"tile_folder={demo}").map_hash
    # Two levels up at most, from two levels down.
    parts = st.lists(st.one_of(NAMES, NAMES, st.just(".."), st.just(".")), min_size=1, max_size=3)
    paths = parts.map(lambda given: "/".join(["a", "b", "c", *given]))

    def holds(path: str) -> None:
        outcome = world.run(f"tile_folder={demo}", output=path)
        if outcome.code == 0:
            assert outcome.map_hash == untouched, outcome

    effort.tries(6, paths, holds)
