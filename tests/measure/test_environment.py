"""What a run says of the machine it ran on."""

import subprocess
import sys

import numpy as np

from benexp.measure.environment import environment, peak_memory


def test_it_names_machine_and_versions() -> None:
    found = environment()
    assert found["cores"] >= 1
    assert found["libraries"]["numpy"] == np.__version__


def test_a_peak_stays_after_the_memory_is_freed() -> None:
    block = np.ones(25_000_000)
    held = peak_memory()
    size = block.nbytes
    del block
    assert held > size
    # The kernel counts pages per thread and adds them up late.
    assert peak_memory() > 0.95 * held


def test_a_peak_is_not_inherited() -> None:
    block = np.ones(50_000_000)
    code = "from benexp.measure.environment import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child < block.nbytes
