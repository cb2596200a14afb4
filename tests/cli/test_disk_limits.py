"""Runs whose files cannot grow: one line that names what limits them, through the command line."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.products.builders import random_arrays, write_safe
from tests.tasks.test_resume import ASKED, NAMESPACE, ROOT

COMMAND = (sys.executable, "-m", "benexp", *ASKED, "tracking=none")
SIZE = (360, 400)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def lines(stderr: str) -> list[str]:
    """The lines of a run, without its warnings about made-up pixels."""
    return [line for line in stderr.splitlines() if not line.startswith("benexp: warning: ")]


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_safe(tmp_path_factory.mktemp("product"), arrays=random_arrays(SIZE), size=SIZE)


@pytest.mark.parametrize(
    ("limit", "named"),
    [(1_000, "/.chunks-"), (8_000, "_grid.npz"), (100_000, "_maxprob.tif"), (500_000, "_probs.tif")],
)
def test_the_limit_for_the_size_of_a_file_is_named(limit: int, named: str, safe: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*COMMAND, f"tile_folder={safe}", f"output_folder={tmp_path}", "layers=full"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert ran.returncode == 1
    (line,) = lines(ran.stderr)
    assert named in line and ".unfinished" not in line
    assert line.endswith(f"files of this process may not grow past {limit / 1e6:g} MB: raise that limit (ulimit -f)")
    assert not list(tmp_path.glob("*/*.tif"))


@pytest.mark.parametrize("size", ["8k", "100k", "800k"])
def test_a_full_disk_is_named(size: str, safe: Path, tmp_path: Path) -> None:
    try:
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NO NAMESPACES: a full disk is not tested ({error})")
    mount = f'mount -t tmpfs -o size={size} small {tmp_path} && exec "$@"'
    ran = subprocess.run(
        [*NAMESPACE, "sh", "-c", mount, "sh", *COMMAND, f"tile_folder={safe}", f"output_folder={tmp_path}/out"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    (line,) = lines(ran.stderr)
    assert line.startswith("benexp: error: ")
    assert "the disk has no room left" in line and "free" not in line
