"""Ctrl-C and SIGTERM at any moment: one line, the exit code of shells, and work that the same command goes on from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.products.builders import random_arrays, write_safe
from tests.tasks.test_resume import ASKED, ROOT, Mortal

STOPS = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM")]


def unignored() -> None:
    """Else ignored where the tests' own caller ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benexp", *map(str, arguments), "tracking=none"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **{key: str(value) for key, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=unignored,
    )


class Converting(Mortal):
    """Turns the interrupt into an exception of its own, as compiled modules do that are being imported."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        try:
            return super()._infer(patches)
        except KeyboardInterrupt as interrupt:
            raise ImportError("failed to import") from interrupt


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = (360, 400)
    return write_safe(tmp_path_factory.mktemp("product"), arrays=random_arrays(size), size=size)


@pytest.mark.parametrize(("number", "words"), STOPS)
def test_while_modules_load_it_ends_at_once(number: signal.Signals, words: str, tmp_path: Path) -> None:
    (tmp_path / "hydra").mkdir()
    endless = f"from pathlib import Path; Path({str(tmp_path / 'loading')!r}).touch(); import time; time.sleep(600)"
    (tmp_path / "hydra" / "__init__.py").write_text(endless)
    process = subprocess.Popen(
        [sys.executable, "-m", "benexp", "tile_folder=x"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=unignored,
    )
    while not (tmp_path / "loading").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    assert process.communicate()[1] == f"benexp: error: {words}\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize(("number", "words"), STOPS)
def test_a_stopped_run_goes_on(number: signal.Signals, words: str, safe: Path, tmp_path: Path) -> None:
    asked = (f"tile_folder={safe}", f"output_folder={tmp_path}", *ASKED)
    stopped = run(*asked, DIE_AT=5, DIE_OF=int(number))
    assert stopped.returncode == 128 + number
    assert stopped.stderr.splitlines()[-1] == f"benexp: error: {words}; the same command goes on from here"
    assert "Traceback" not in stopped.stderr
    (folder,) = tmp_path.iterdir()
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == [".chunks"]
    assert run(*asked).returncode == 0
    assert json.loads((folder / "run.json").read_text())["resumed_chunks"] > 0
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("at", "more"), [(0, ()), (5, ("resume=false",))])
def test_nothing_is_promised_where_nothing_is_kept(at: int, more: tuple[str, ...], safe: Path, tmp_path: Path) -> None:
    asked = (f"tile_folder={safe}", f"output_folder={tmp_path}", *ASKED, *more)
    stopped = run(*asked, DIE_AT=at, DIE_OF=int(signal.SIGTERM))
    assert stopped.returncode == 143
    assert stopped.stderr.splitlines()[-1] == "benexp: error: stopped by SIGTERM"


@pytest.mark.parametrize("more", [(), ("-m", "seed=1,2")])
def test_an_interrupt_that_a_library_converts_stays_one(more: tuple[str, ...], safe: Path, tmp_path: Path) -> None:
    target = f"backend._target_={__name__}.{Converting.__name__}"
    asked = (f"tile_folder={safe}", f"output_folder={tmp_path}", *ASKED, target, *more)
    stopped = run(*asked, DIE_AT=5, DIE_OF=int(signal.SIGINT))
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1].startswith("benexp: error: interrupted")
    assert stopped.stderr.count("error") == 1
