from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp.demo.product import write_product
from tests.fuzz.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo product of 180 x 180 pixels."""
    return write_product(tmp_path_factory.mktemp("demo"), 180, 7)[0]
