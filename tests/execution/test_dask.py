"""Chunks and tiles on dask's workers: a real scheduler and two workers, and what may happen to them."""

import logging
from pathlib import Path

import pytest

from benexp import classify
from tests.execution.conftest import running
from tests.execution.troubles import ASKED, files, noted

pytest.importorskip("distributed")
DASK = ("execution=dask", "execution.patience=30")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def test_the_chunks_of_one_tile_on_two_workers_make_the_same_files(
    safe: Path, alone: dict[str, bytes], scheduler: str, notes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = (*ASKED, *DASK, f"execution.address={scheduler}", f"backend.folder={notes}")
    with caplog.at_level(logging.INFO):
        record = classify(safe, tmp_path / "out", *asked)
    assert files(tmp_path / "out" / record["tile"]) == alone
    assert record["backend"]["backend"] == "Troubled"
    assert set(noted(notes, "opened").values()) == {1}
    assert len(noted(notes, "batches")) == 2
    assert "2 workers of the scheduler" in caplog.text and "dashboard" in caplog.text


def test_a_worker_that_is_killed_changes_nothing(
    safe: Path, alone: dict[str, bytes], notes: Path, tmp_path: Path
) -> None:
    (notes / "die").touch()
    with running(tmp_path, workers=2) as address:
        asked = (*ASKED, *DASK, f"execution.address={address}", f"backend.folder={notes}")
        record = classify(safe, tmp_path / "out", *asked)
    assert not (notes / "die").exists()
    assert len(noted(notes, "opened")) == 2
    assert files(tmp_path / "out" / record["tile"]) == alone
