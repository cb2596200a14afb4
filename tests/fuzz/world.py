"""A sandbox for one run of the command line, and what must hold however strange its input was."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60
"""A run of a tiny tile takes half a second; so long on a machine with a lot else to do."""
ADDRESSES = 3 << 30
"""Bytes of addresses that a run may have: most are never touched."""
PEAK = 450 << 20
"""Bytes of memory that a run of a tiny tile may have had at most; a sound one has half of it."""
QUICK = ("model=demo", "backend=null", "backend._target_=tests.fuzz.answers.Answers", "layers.names=[class]")
RECORDLESS = ("task", "dry_run", "experiment")
"""Where overrides begin after which a run may end well without a record."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    arguments: tuple[str, ...]
    code: int
    errors: tuple[str, ...]
    """Its lines on stderr that are errors."""
    record: dict[str, Any] | None
    """Its run.json, where it ended well."""
    said: str
    """Everything it printed."""

    @property
    def map_hash(self) -> str | None:
        return self.record["map_hash"] if self.record else None


class World:
    """Folders of its own, where runs begin, and the process that they are forks of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.products = root / "products"
        self.products.mkdir()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment.pop("HYDRA_FULL_ERROR", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[2],
            text=True,
        )

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(SECONDS)

    def run(self, *arguments: str, output: str = "out", peak: int = PEAK) -> Outcome:
        """Run the command line in a new empty folder, with results going to `output` in it.

        Fails where it crashes, hangs, shows a traceback, says nothing clear, writes anywhere but in the folder of
        results, leaves something half-written there, or takes more than `peak` bytes of memory.
        """
        here = Path(tempfile.mkdtemp(dir=self.root))
        try:
            return self._run(here, arguments, output, peak)
        finally:
            shutil.rmtree(here, ignore_errors=True)

    def _run(self, here: Path, arguments: Sequence[str], output: str, peak: int) -> Outcome:
        for folder in ("cwd", "home", "tmp"):
            (here / folder).mkdir()
        before = snapshot(self.root)
        given = [*QUICK, f"output_folder={here / output}", *arguments]
        answer = self._ask(here, given)
        text = {name: (here / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr")}
        said = text["stdout"] + text["stderr"]
        errors = tuple(line for line in text["stderr"].splitlines() if line.startswith("benexp: error: "))
        told = f"\n{' '.join(map(repr, given))}\n{answer}\n{said}"
        assert not answer["hung"], f"hangs: {told}"
        assert answer["code"] in (0, 1), f"dies: {told}"
        assert "Traceback" not in said and "unexpected" not in "".join(errors), f"is not worded: {told}"
        assert not answer["left"], f"leaves processes behind: {told}"
        assert answer["peak_bytes"] <= peak, f"takes {answer['peak_bytes'] >> 20} MB: {told}"
        assert (answer["code"] == 0) == (not errors), f"error and exit code do not fit: {told}"
        assert answer["code"] == 0 or len(errors) == 1, f"one mistake is one line: {told}"
        # Libraries print there, too, on their way.
        assert not errors or text["stderr"].splitlines()[-1] == errors[-1], f"the error is more than one line: {told}"
        after = snapshot(self.root)
        folder = Path(os.path.normpath(here / output))
        written = [path for path in after if path not in before or after[path] != before[path]]
        mine = (folder, here / "stdout", here / "stderr")
        stray = [path for path in written if not any(path == own or own in path.parents for own in mine)]
        # What leads to the folder of results is made, too, as asked: `a` for `a/../b`.
        asked = {Path(os.path.normpath(parent)) for parent in (here / output).parents}
        stray = [path for path in stray if path not in asked]
        assert not stray, f"writes to {stray}: {told}"
        assert not [path for path in before if path not in after], f"removes files: {told}"
        results = [path for path in written if path != folder and folder in path.parents]
        record = None
        if answer["code"] == 0:
            runs = [path for path in results if path.name == "run.json"]
            if runs:
                record = json.loads(runs[0].read_text(encoding="utf-8"))
                missing = [name for name in record["files"] if not (runs[0].parent / name).is_file()]
                assert not missing, f"lacks {missing}: {told}"
            else:
                assert any(one.lstrip("+~ ").startswith(RECORDLESS) for one in arguments), f"makes nothing: {told}"
        else:
            halves = [path for path in results if not path.is_dir()]
            assert not halves, f"leaves {halves}: {told}"
        marks = (".partial", ".unfinished-", ".lock", *([] if answer["code"] else [".chunks-"]))
        unfinished = [mark for mark in marks if not any(mark in one for one in given)]
        halves = [path for path in results if any(mark in path.name for mark in unfinished)]
        assert not halves, f"leaves {halves}: {told}"
        return Outcome(tuple(given), answer["code"], errors, record, said)

    def _ask(self, here: Path, arguments: Sequence[str]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        folders = {"HOME": here / "home", "TMPDIR": here / "tmp", "BENEXP_CACHE_DIR": here / "tmp"}
        asked = {
            "arguments": [os.fsencode(argument).decode("latin-1") for argument in arguments],
            "cwd": str(here / "cwd"),
            "environment": {"BENEXP_TRACKING": "none"} | {name: str(folder) for name, folder in folders.items()},
            "stdout": str(here / "stdout"),
            "stderr": str(here / "stderr"),
            "bytes": ADDRESSES,
            "seconds": SECONDS,
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def snapshot(folder: Path) -> dict[Path, tuple[int, int] | None]:
    """Everything below: size and time of each file, None for folders and links to nowhere."""
    found: dict[Path, tuple[int, int] | None] = {}
    for parent, folders, files in os.walk(folder):
        found |= {Path(parent, name): None for name in folders}
        for name in files:
            state = Path(parent, name).lstat()
            found[Path(parent, name)] = (state.st_size, state.st_mtime_ns)
    return found
