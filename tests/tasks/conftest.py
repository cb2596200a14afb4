from pathlib import Path

import pytest

from tests.products.builders import random_arrays, write_safe
from tests.tasks.benchmarks import write


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of 250 x 310 pixels with an offset and a nodata corner."""
    arrays = random_arrays((250, 310))
    for array in arrays.values():
        array += 1000
        side = len(array) // 5
        array[:side, :side] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=(250, 310), manifest="MD5")


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks without plots: they take seconds, and have tests of their own."""
    monkeypatch.setattr("benexp.tasks.benchmark.write_plots", lambda *_: [])


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None, second=None)
