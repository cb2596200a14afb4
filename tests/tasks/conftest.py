from pathlib import Path

import pytest

from tests.products.builders import random_arrays, write_safe


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of 250 x 310 pixels with an offset and a nodata corner."""
    arrays = random_arrays((250, 310))
    for array in arrays.values():
        array += 1000
        side = len(array) // 5
        array[:side, :side] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=(250, 310), manifest="MD5")
