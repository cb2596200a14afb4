"""Any value for any key on the command line: the untouched map, or one clear line."""

import dataclasses
import os
import re
import typing
from pathlib import Path

import pytest
from hypothesis import strategies as st

from benexp.config.schema import Config
from tests.fuzz.effort import EFFORTS, Effort
from tests.fuzz.world import ADDRESSES, World


def keys(schema: type, prefix: str = "") -> list[str]:
    """Every key of a schema, and of those inside."""
    found = []
    for name, kind in typing.get_type_hints(schema).items():
        found.append(prefix + name)
        if dataclasses.is_dataclass(kind):
            found += keys(typing.cast(type, kind), f"{prefix}{name}.")
    return found


KEYS = [key for key in keys(Config) if key != "output_folder" and not key.startswith("serve")]
"""All but those that could make a server of a run, and what test_names.py is about."""
GROUPS = ("task", "model", "chunking", "backend", "layers", "execution", "tracking", "experiment")
OPEN = ("backend.batch_size", "backend.threads", "backend.device", "backend.precision", "backend.allow_fallback")
SPECIAL = (
    *("null", "", "nan", "inf", "-inf", "1e999", "-0", "0", "1", "-1", "0x10", "1_000", "0.5", "1e-320", "007", "60"),
    *("9223372036854775807", "-9223372036854775809", "1" + "0" * 400, "2147483648", "65537", "true", "False", "yes"),
    *("~", "[]", "{}", "[1]", "[1,2]", "[0,0,150,150]", "[nan,0,1,1]", "[-1,0,9,9]", "[[1]]", "[null]", "[a,b,c,d]"),
    *("{a: 1}", "[600000,5698200,601800,5700000]", "[3,50,5,52]", "{fp32: nan}", "{class: 1}", "[class]"),
    *("[class,class]", "${tile_folder}", "${nothing}", "${oc.env:HOME}", "${oc.env:NOTHING}", "${", "???"),
    *("${output_folder}", "${seed}", "a b", "a,b", "a=b", "'", '"', "\\", "a\\'b", "(", "choice(1,2)", "range(1,3)"),
    *("glob(*)", "int(1)", "a:b", "#", "%", "é", "\u202eabc", "\U0001f30d", "a\nb", "a\tb", "\x7f", "x" * 5000),
    *("../../x", "/", ".", "..", "-x", "--help", "EPSG:4326", "auto", "none", "sha256", "gaussian", "float64"),
    *("torch", "pathlib.Path", "os", "tests.fuzz.answers", "tcp://127.0.0.1:1"),
)  # fmt: skip
HARMLESS = re.compile(
    r"[+~ ]*((export|quantization|evaluate|benchmark|recommend|tracking|execution|integrity|seed|resume)\b"
    r"|backend\.(threads|batch_size)=)"
)
"""How overrides begin that change nothing of a map."""


def overrides() -> st.SearchStrategy[str]:
    """One override: a key, known or a little off, and anything as its value."""
    keys = st.sampled_from([*KEYS, *OPEN, *GROUPS])
    off = st.sampled_from(
        ["{}", "{}", "{}", "{}", "{}", "{}", "{}", "{}", "+{}", "++{}", "~{}", "{}.x", "{}@y", " {}", "{}_", ".{}"]
    )
    values = st.one_of(
        st.sampled_from(SPECIAL),
        st.sampled_from(SPECIAL),
        st.integers(-10, 300).map(str),
        st.floats(width=32).map(str),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
        st.binary(max_size=8).filter(lambda value: b"\0" not in value).map(os.fsdecode),
    )
    return st.builds(lambda key, form, value: f"{form.format(key)}={value}", keys, off, values)


@pytest.mark.parametrize("effort", EFFORTS)
def test_config_values(effort: Effort, world: World, demo: Path) -> None:
    untouched = world.run(f"tile_folder={demo}").map_hash

    def holds(given: list[str]) -> None:
        outcome = world.run(f"tile_folder={demo}", *given, peak=ADDRESSES)  # batches may be large
        if outcome.record and all(HARMLESS.match(one) for one in given):
            assert outcome.map_hash == untouched

    effort.tries(25, st.lists(overrides(), min_size=1, max_size=2), holds)
