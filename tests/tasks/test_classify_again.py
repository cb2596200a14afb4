"""Classifying into a folder that has results already: what is reused, and what must not be."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from tests.products.builders import write_safe
from tests.tasks.runs import FAST, files_below


def test_a_second_run_renders_the_saved_grid(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classify(safe, tmp_path, *FAST)
    assert not first["grid_reused"]
    with monkeypatch.context() as patch:
        patch.setattr(Backend, "classify", lambda *_: pytest.fail("the model ran"))
        second = classify(safe, tmp_path, *FAST, "chunking.blend=flat", "layers.names=[class,gap]")
    assert second["grid_reused"]
    assert [name for name in second["files"] if name.endswith("_gap.tif")]
    assert not [name for name in second["files"] if name.endswith("_entropy.tif")]
    assert second["backend"] == first["backend"]
    assert not classify(safe, tmp_path, *FAST, "chunking.min_valid=0.9")["grid_reused"]
    assert not classify(safe, tmp_path, *FAST, "chunking.min_valid=0.9", "resume=false")["grid_reused"]


def test_a_backends_own_settings_are_part_of_the_question(safe: Path, tmp_path: Path) -> None:
    """A saved grid is not reused where a user's own key of the backend changed; batch and threads change nothing."""
    settings = ["backend._target_=tests.tasks.test_own_code.Brightness", "backend.gain=1.0"]
    first = classify(safe, tmp_path, *FAST, *settings)
    assert classify(safe, tmp_path, *FAST, *settings, "backend.batch_size=3")["grid_reused"]
    other = classify(safe, tmp_path, *FAST, *settings[:1], "backend.gain=0.5")
    assert not other["grid_reused"]
    assert other["map_hash"] != first["map_hash"]


def test_what_was_read_from_a_damaged_file_is_not_reused(tmp_path: Path) -> None:
    """Flipped bytes decode without an error: only the checksum tells, and then nothing of that run may stay."""
    safe = write_safe(tmp_path, size=(250, 310), manifest="SHA3-256")
    band = next(safe.rglob("*_B08_10m.jp2"))
    good = band.read_bytes()
    middle = len(good) // 2
    band.write_bytes(good[:middle] + bytes(b ^ 0xFF for b in good[middle : middle + 40]) + good[middle + 40 :])
    with pytest.raises(BenexpError, match="B08_10m"):
        classify(safe, tmp_path / "out", *FAST)
    assert not files_below(tmp_path / "out")
    unverified = classify(safe, tmp_path / "out", *FAST, "integrity=none")
    band.write_bytes(good)
    repaired = classify(safe, tmp_path / "out", *FAST)
    assert not repaired["grid_reused"]
    assert repaired["grid_key"] != unverified["grid_key"]
    with rasterio.open(tmp_path / "out" / repaired["tile"] / f"{repaired['tile']}_maxprob.tif") as raster:
        mended = raster.read(1)
    fresh = classify(safe, tmp_path / "fresh", *FAST)
    with rasterio.open(tmp_path / "fresh" / fresh["tile"] / f"{fresh['tile']}_maxprob.tif") as raster:
        assert np.array_equal(mended, raster.read(1))


def test_rasters_of_an_earlier_run_do_not_stay_beside_the_new_ones(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "layers=full")
    folder = tmp_path / record["tile"]
    (folder / "notes.txt").write_text("the user's own")
    classify(safe, tmp_path, *FAST, "chunking.blend=flat")
    assert not list(folder.glob("*_probs.tif"))
    assert not list(folder.glob("*_multilabel.tif"))
    assert (folder / "notes.txt").exists()
    assert not [name for name in files_below(folder) if "partial" in name or "unfinished" in name]


def test_an_answer_within_a_wider_tolerance_is_not_reused(safe: Path, tmp_path: Path) -> None:
    """The file that gave it might be refused now; other precisions' tolerances, and those of no file, are the same."""
    assert not classify(safe, tmp_path, *FAST)["grid_reused"]
    assert classify(safe, tmp_path, *FAST, "export.tolerance.int8=0.1")["grid_reused"]
    assert not classify(safe, tmp_path, *FAST, "export.tolerance.fp32=0.00009")["grid_reused"]
    assert not classify(safe, tmp_path, *FAST, "backend=null")["grid_reused"]
    assert classify(safe, tmp_path, *FAST, "backend=null", "export.tolerance.fp32=0.00009")["grid_reused"]
