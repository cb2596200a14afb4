"""The table of a sweep's report, its explanations, and red."""

from io import StringIO

import pytest

from benexp.benchmarking.sweep_table import WIDTH, explanations, red, table
from benexp.records.figures import Interval, Verdict
from benexp.records.sweep import Configuration, ReferenceConfiguration, SweepReport
from tests.records.builders import configuration, sweep_report


def report(*configurations: Configuration) -> SweepReport:
    reference = ReferenceConfiguration(configuration="a", config_hash="a", precision="fp32", why="")
    return sweep_report(*configurations, recommended="b", reference=reference)


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
    warnings = [Verdict(code, "warning", "") for code in ("unstable", "other-load", "stolen")]
    name = "my_package.backends.MyOwnBackendWithAName, chunk 2048, batch 32, backend.option=something-long"
    lines = table(report(configuration(name, verdicts=warnings), configuration("b")))
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) > 3
    # Broken behind commas: no number is torn from its word.
    assert any("chunk 2048," in line for line in lines) and any("batch 32," in line for line in lines)


def test_a_reason_is_told_once_with_all_it_holds_for_and_a_warning_once() -> None:
    note = Verdict("under-quota", "note", "a note")
    stolen = [Verdict("stolen", "warning", f"{cores} cores were stolen") for cores in (1, 2)]
    unstable = Verdict("unstable", "warning", "unstable: 9 runs vary")
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
    speed = Interval(20.0, 0.4, 999.5, 2)
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
