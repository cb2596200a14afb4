"""The table of a joint report, its explanations, and red."""

from io import StringIO
from typing import Any, cast

import pytest

from benexp.records.sweep import WIDTH, Configuration, JointReport, explanations, red, table


def configuration(name: str, **more: Any) -> Configuration:
    speed = {"median": 1234.56, "low": 1100.0, "high": 1300.04, "samples": 3}
    found = {
        **{"configuration": name, "config_hash": name, "patches_per_second": speed, "memory_bytes": 1_234_000_000},
        **{"flips_per_million": 0.0, "pareto_memory": False, "pareto_flips": False, "problems": [], "failed": []},
        **{"repeats": [1, 2], "errors": [], "verdicts": [], "left_out": None},
    }
    return cast(Configuration, found | more)


def report(*configurations: Configuration) -> JointReport:
    found = {
        "reference": {"config_hash": "a"},
        "recommendation": {"config_hash": "b"},
        "configurations": configurations,
    }
    return cast(JointReport, found)


def test_columns_are_aligned_and_unknowns_are_dashes() -> None:
    known = configuration("b", flips_per_million=4988.6, pareto_memory=True, pareto_flips=True)
    failed = configuration(
        "c", patches_per_second=None, memory_bytes=None, flips_per_million=None, failed=[1, 2], problems=["p"]
    )
    assert table(report(configuration("a"), known, failed, configuration("d", failed=[1]))) == [
        "configuration  patches/s            (95 %)   memory  flips/M  Pareto front   notes",
        "a                 1234.6  1100.0 to 1300.0  1.23 GB        0                 reference",
        "b                 1234.6  1100.0 to 1300.0  1.23 GB    4,989  memory, flips  recommended",
        "c                      -                          -        -                 MAPS DISAGREE, failed",
        "d                 1234.6  1100.0 to 1300.0  1.23 GB        0                 1 of 2 failed",
    ]


def test_long_names_and_notes_take_several_lines_within_the_width() -> None:
    warnings = [{"code": code, "severity": "warning", "sentence": ""} for code in ("unstable", "other-load", "stolen")]
    name = "my_package.backends.MyOwnBackendWithAName, chunk 2048, batch 32, backend.option=something-long"
    lines = table(report(configuration(name, verdicts=warnings), configuration("b")))
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) > 3
    # Broken behind commas: no number is torn from its word.
    assert any("chunk 2048," in line for line in lines) and any("batch 32," in line for line in lines)


def test_a_reason_is_told_once_with_all_it_holds_for_and_a_warning_once() -> None:
    note = {"code": "under-quota", "severity": "note", "sentence": "a note"}
    stolen = [{"code": "stolen", "severity": "warning", "sentence": f"{cores} cores were stolen"} for cores in (1, 2)]
    unstable = {"code": "unstable", "severity": "warning", "sentence": "unstable: 9 runs vary"}
    found = [
        configuration("a", left_out="failed: no"),
        configuration("b", left_out="failed: no", verdicts=[stolen[0], unstable]),
        configuration("c", verdicts=[note, stolen[1]]),
    ]
    assert explanations(found) == [
        "not recommended: failed: no: a; b",
        "stolen: 1 cores were stolen (or alike: 2 configurations)",
        "unstable: 9 runs vary",
    ]


def test_reasons_that_differ_in_numbers_only_are_one_line() -> None:
    memory = [configuration(f"m{gb}", left_out=f"{gb} GB of memory") for gb in (8, 8.25, 8)]
    flips = [configuration(name, left_out="5,000 flipped pixels per million") for name in "ab"]
    assert explanations([*memory, *flips]) == [
        "not recommended: 8 GB of memory (or alike): m8; m8.25; m8",
        "not recommended: 5,000 flipped pixels per million: a; b",
    ]


def test_an_interval_that_tells_nothing_is_no_figures() -> None:
    speed = {"median": 20.0, "low": 0.4, "high": 999.5, "samples": 2}
    (_, line) = table(report(configuration("b", patches_per_second=speed)))
    assert line.startswith("b                   20.0  too wide  1.23 GB")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_red_is_for_terminals_that_may_be_coloured(environment: dict[str, str], coloured: bool) -> None:
    assert red("no", Terminal(), environment) == ("\033[31mno\033[0m" if coloured else "no")
    assert red("no", StringIO(), environment) == "no"
