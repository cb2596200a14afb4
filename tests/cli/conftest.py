"""Products to sweep over, and stand-ins for jobs."""

from pathlib import Path

import pytest

from benexp.cli import job_runner
from tests.benchmarking.builders import write
from tests.cli.sweeps import Speeds


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    found = Speeds()
    monkeypatch.setattr(job_runner, "run", found)
    return found
