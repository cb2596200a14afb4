"""What comes from elsewhere and means ill, given to the command line: one line, in bounds, and nothing done elsewhere.

All cases run in one process with little memory, each in a folder of its own; parts have tests of their own, too.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hostile import REFUSED, SECRET, named
from tests.tasks.runs import files_below

MEMORY = 4 * 2**30
"""Bytes of addresses that the process may have: its libraries and threads reserve 2.5 GB, and use a tenth."""
PEAK = 600e6
"""Bytes that it may use; without any of these it has 200 MB."""

RUNNER = """
import contextlib, json, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from benexp.cli.app import main
told = os.dup(2)
for line in sys.stdin:
    case = json.loads(line)
    os.chdir(case["folder"])
    # The largest size so far counts from here on.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    with open("stderr", "wb") as file:
        os.dup2(file.fileno(), 2)
        code = main(case["arguments"])
        sys.stderr.flush()
        os.dup2(told, 2)
    peak = 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    print(json.dumps({"code": code, "peak": peak}), file=sys.__stdout__, flush=True)
"""


class Answer(NamedTuple):
    """How the command line answered a case."""

    code: int
    stderr: str
    peak: int
    folder: Path
    """Of the case: `out` in it was the output folder."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str], Path], Answer]]:
    """The command line in a process with little memory, for one case after the other; a hang ends it."""
    with subprocess.Popen(
        ["timeout", "120", sys.executable, "-c", RUNNER, str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def give(arguments: list[str], folder: Path) -> Answer:
            assert process.stdin and process.stdout
            asked = {"arguments": [*arguments, f"output_folder={folder / 'out'}"], "folder": str(folder)}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            # What is said for the user comes before the answer.
            for line in process.stdout:
                if line.startswith('{"code"'):
                    found = json.loads(line)
                    return Answer(found["code"], (folder / "stderr").read_text(), found["peak"], folder)
            pytest.fail(f"the process ended or hung: {process.wait()}")

        yield give
        assert process.stdin
        process.stdin.close()


def state(folder: Path) -> dict[str, str]:
    """What lies in a folder, but for its `out` and what was said."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] not in ("out", "stderr")
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(case: str, command: Callable[..., Answer], tmp_path: Path) -> None:
    make, message = REFUSED[case]
    arguments = make(tmp_path)
    before, made_before = state(tmp_path), files_below(tmp_path / "out")
    answer = command(arguments, tmp_path)
    assert answer.code == 1
    errors = [line for line in answer.stderr.splitlines() if line.startswith("benexp: error: ")]
    assert len(errors) == 1 and message in errors[0], answer.stderr
    assert "Traceback" not in answer.stderr and "\x1b" not in answer.stderr and SECRET not in answer.stderr
    assert answer.peak < PEAK
    assert state(tmp_path) == before
    assert files_below(tmp_path / "out") == made_before


NAME = """a';$(touch ran)|`touch ran`&"<img src=x onerror=alert(1)>#?%41{}[]=,!*$HOME"""


def test_a_name_of_shell_and_html_is_only_a_name(command: Callable[..., Answer], tmp_path: Path) -> None:
    arguments = named(NAME)(tmp_path)
    before = state(tmp_path)
    answer = command(arguments, tmp_path)
    assert answer.code == 0, answer.stderr
    assert state(tmp_path) == before
    results = tmp_path / "out" / NAME
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NAME]
    assert json.loads((results / "run.json").read_text())["tile"] == NAME
    assert not list(tmp_path.rglob("ran"))
    assert "<img src=x" not in (results / "viewer.html").read_text()


def test_what_lies_in_the_output_folder_leads_nowhere_else(command: Callable[..., Answer], tmp_path: Path) -> None:
    """A record that names files elsewhere as its own, and links where files are written."""
    arguments = named("P")(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(SECRET)
    results = tmp_path / "out" / "P"
    results.mkdir(parents=True)
    (results / "run.json").write_text(json.dumps({"files": {"../../one": {}, str(tmp_path / "one"): {}}}))
    for link in ("P_class.tif", "P_grid.npz", "P_grid.partial-00000000.npz", "viewer.html"):
        (results / link).symlink_to(tmp_path / "two")
    before = state(tmp_path)
    answer = command([*arguments, "resume=false", "overwrite=true"], tmp_path)
    assert answer.code == 0, answer.stderr
    assert "run.json is no record of benexp" in answer.stderr
    assert state(tmp_path) == before
    assert not [path for path in results.iterdir() if path.is_symlink()]


@pytest.mark.parametrize("left", ["{", '{"files": 5}', "\ud800"])
def test_a_record_that_is_none_costs_no_results(left: str, command: Callable[..., Answer], tmp_path: Path) -> None:
    arguments = named("P")(tmp_path)
    (tmp_path / "out" / "P").mkdir(parents=True)
    (tmp_path / "out" / "P" / "run.json").write_bytes(left.encode(errors="surrogatepass"))
    answer = command(arguments, tmp_path)
    assert answer.code == 1 and "replace these results with overwrite=true" in answer.stderr
    answer = command([*arguments, "overwrite=true"], tmp_path)
    assert answer.code == 0, answer.stderr
    assert "is no record of benexp" in answer.stderr
    assert json.loads((tmp_path / "out" / "P" / "run.json").read_text())["tile"] == "P"
