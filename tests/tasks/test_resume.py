"""A run that was killed, whenever that was, and the same command again: the same files as without the accident."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from tests.products.builders import random_arrays, write_safe

TARGET = "tests.tasks.test_resume.Mortal"
ROOT = Path(__file__).parents[2]
ASKED = (
    *(f"backend._target_={TARGET}", "backend.batch_size=4", "model=demo", "model.weights=random"),
    *("chunking.chunk_size=120", "chunking.stride=40"),
)

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""Before a command, which may then mount what nobody else sees. Needs no root, but a kernel that allows it."""
SCRIPT = """
kept=$1 size=$2; shift 2
mkdir $kept/disk && mount -t tmpfs -o size=$size small $kept/disk && cd $kept/disk || exit
"$@" 2> $kept/said; echo $? > $kept/code; cp -r . $kept/full
mount -o remount,size=64m $kept/disk && "$@" && cp -r . $kept/roomy
"""


class Mortal(Backend):
    """Answers by brightness, and dies of the signal in DIE_OF before its batch number DIE_AT."""

    def _open(self) -> None:
        self._count = 0

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        if self._count == int(os.environ.get("DIE_AT", -1)):
            os.kill(os.getpid(), int(os.environ["DIE_OF"]))
        self._count += 1
        means = patches.mean((1, 2, 3))[:, None] / 5000 * np.linspace(0.2, 1, 19)
        return (means % 1).astype(np.float32)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("product"))


def made(folder: Path, seed: int = 0) -> Path:
    size = (360, 400)
    return write_safe(folder, arrays=random_arrays(size, seed=seed), size=size, manifest="MD5")


def die(safe: Path, out: Path, number: int, at: int) -> None:
    """Run until batch number `at`, and no further."""
    command = [sys.executable, "-m", "benexp", f"tile_folder={safe}", f"output_folder={out}", *ASKED]
    died = subprocess.run(
        command,
        env={**os.environ, "DIE_AT": str(at), "DIE_OF": str(int(number)), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        # Else ignored where the tests' own caller ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert died.returncode == (130 if number == signal.SIGINT else -number), died.stderr
    assert not list(out.glob("*/run.json")) and not list(out.glob("*/*.tif"))


def files(out: Path) -> dict[str, bytes]:
    """What must not depend on the accident."""
    times = ("run.json", "viewer.html", "_grid.npz")
    (folder,) = out.iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(times)}


@pytest.fixture(scope="module")
def whole(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    assert classify(safe, out, *ASKED)["resumed_chunks"] == 0
    return files(out)


@pytest.fixture(scope="module")
def died(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed run has left."""
    out = tmp_path_factory.mktemp("died")
    die(safe, out, signal.SIGKILL, at=9)
    return out


@pytest.fixture
def left(died: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(died, tmp_path / "left"))


def test_the_same_command_again(safe: Path, whole: dict[str, bytes], left: Path) -> None:
    assert classify(safe, left, *ASKED)["resumed_chunks"] > 0
    assert files(left) == whole
    assert not list(left.glob("*/.*")), "leftovers"


def test_after_an_interrupt(safe: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    die(safe, tmp_path, signal.SIGINT, at=5)
    assert classify(safe, tmp_path, *ASKED)["resumed_chunks"] > 0
    assert files(tmp_path) == whole


def test_killed_while_it_renders(safe: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    # The grid is whole and saved, the rasters are not.
    classify(safe, tmp_path, *ASKED)
    (path,) = tmp_path.glob("*/run.json")
    path.unlink()
    (path.parent / "preview.png").unlink()
    (path.parent / ".unfinished-left").mkdir()
    # As if it had been killed before it removed the chunks of this grid.
    (path.parent / ".chunks-left").mkdir()
    (path.parent / ".chunks-left" / "0-0.npz").touch()
    (grid,) = path.parent.glob("*_grid.npz")
    half = grid.with_name(f"{grid.stem}.partial-0123abcd.npz")
    half.write_bytes(b"half")
    assert classify(safe, tmp_path, *ASKED)["grid_reused"]
    assert files(tmp_path) == whole
    assert not list(tmp_path.glob("*/.*")), "leftovers"
    assert not half.exists()


@pytest.mark.parametrize("change", ["chunking.min_valid=0.6", "resume=false", "the input"])
def test_another_question_starts_anew(safe: Path, left: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    more = (change,) if "=" in change else ()
    product = safe if more else made(left.parent / "other", seed=1)
    record = classify(product, left, *ASKED, *more)
    assert record["resumed_chunks"] == 0
    assert ("changed since the run that was interrupted" in caplog.text) == (change != "resume=false")


def test_a_file_that_is_found_damaged_leaves_nothing(safe: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(safe, tmp_path / safe.name))
    manifest = broken / "manifest.safe"
    manifest.write_text(manifest.read_text().replace("</checksum>", "0</checksum>"))
    with pytest.raises(BenexpError, match="checksum"):
        classify(broken, tmp_path / "out", *ASKED)
    assert not list(tmp_path.glob("out/**/*.npz"))


# Of 9 chunks the first has room for some, the second for all and the grid, but not for all results.
@pytest.mark.parametrize("size", ["24k", "500k"])
def test_the_same_command_goes_on_once_there_is_room(
    size: str, safe: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    try:
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NO NAMESPACES: a full disk is not tested ({error})")
    command = [sys.executable, "-m", "benexp", f"tile_folder={safe}", "output_folder=out", *ASKED]
    subprocess.run(
        [*NAMESPACE, "sh", "-c", SCRIPT, "sh", str(tmp_path), size, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "code").read_text() == "1\n"
    said = (tmp_path / "said").read_text()
    assert said.count("benexp: error: ") == 1 and "Traceback" not in said
    (full,) = (tmp_path / "full" / "out").iterdir()
    left = sorted(path.name for path in full.iterdir())
    (record,) = (tmp_path / "roomy" / "out").glob("*/run.json")
    again = json.loads(record.read_text())
    # Either way all answers that there was room for are taken over.
    if size == "500k":
        assert [name.endswith("_grid.npz") for name in left] == [True] and again["grid_reused"]
    else:
        assert [name.startswith(".chunks-") for name in left] == [True] and 0 < again["resumed_chunks"] < 9
    assert files(tmp_path / "roomy" / "out") == whole
    assert not list(record.parent.glob(".*"))
