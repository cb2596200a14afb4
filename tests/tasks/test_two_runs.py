"""Two runs at once into one folder of results."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benexp.cli.app import main
from benexp.core.files import alone_in
from tests.products.builders import random_arrays, write_folder
from tests.tasks.runs import files_below
from tests.tasks.test_own_code import Brightness

ROOT = Path(__file__).parents[2]


class Crowded(Brightness):
    """Does something else while it is at work on its first batch."""

    meanwhile: ClassVar[list[Callable[[], None]]] = []

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super()._infer(patches)


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    for name in ("in/a", "in/b", "c"):
        write_folder(tmp_path / name, arrays=random_arrays((130, 130), seed=ord(name[-1])))
    return ["offset=none", "model=demo", "model.weights=random", f"output_folder={tmp_path / 'out'}"]


def test_a_second_run_over_many_tiles_is_refused_and_one_over_another_tile_is_not(
    asked: list[str], tmp_path: Path
) -> None:
    """What they share is collection.json, and the tiles that both have."""
    ended: dict[str, subprocess.CompletedProcess[str]] = {}
    out = tmp_path / "out"

    def others() -> None:
        before = files_below(out)
        for given in (f"input_dir={tmp_path / 'in'}", f"tile_folder={tmp_path / 'c'}"):
            ended[given.partition("=")[0]] = subprocess.run(
                [sys.executable, "-m", "benexp", *asked, given, "backend=null"],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            if "tile_folder" not in ended:
                assert files_below(out) == before

    Crowded.meanwhile.append(others)
    assert main([*asked, f"input_dir={tmp_path / 'in'}", f"backend._target_={__name__}.Crowded"]) == 0
    assert ended["input_dir"].returncode == 1
    refused = f"benexp: error: {out}: another run is writing there: wait for it, or name another folder"
    assert ended["input_dir"].stderr.splitlines()[-1] == refused
    assert ended["tile_folder"].returncode == 0, ended["tile_folder"].stderr
    assert {path.parent.name for path in out.glob("*/run.json")} == {"a", "b", "c"}
    assert not [name for name in files_below(out) if "lock" in name]


def test_a_refused_run_writes_nothing_and_a_failed_one_leaves_no_folder(
    asked: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = [*asked, f"input_dir={tmp_path / 'in'}", f"backend._target_={__name__}.Crowded"]
    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out):
        assert main(given) == 1
        assert "another run is writing there" in caplog.text
        assert files_below(out) == [".lock"]
    out.rmdir()
    assert main([*given, "mask.scl=[1]"]) == 1  # these products have no scene classification
    assert not out.exists()
