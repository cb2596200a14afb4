"""A product whose page tests of viewer.html open in a browser."""

from pathlib import Path

import numpy as np
import pytest

from tests.products.builders import random_arrays, write_folder
from tests.report.pages import HOSTILE, SHAPE, run


@pytest.fixture(scope="package")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a bad name, in which brightness changes, and one corner is empty."""
    rows, cols = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    arrays = random_arrays(SHAPE)
    for i, band in enumerate(("B02", "B03", "B08")):
        arrays[band] = (2500 + 2000 * np.sin(rows / (70 + 20 * i) + cols / (90 - 20 * i))).astype(np.uint16)
    arrays["B02"][:60, :70] = 0
    return write_folder(tmp_path_factory.mktemp("product") / HOSTILE, arrays=arrays)


@pytest.fixture(scope="package")
def made(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(product, tmp_path_factory.mktemp("out"))
