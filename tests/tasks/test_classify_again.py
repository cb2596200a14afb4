"""Classifying into a folder that has results already: what is reused, and what must not be."""

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from tests.products.builders import write_safe
from tests.tasks.runs import FAST, files_below
from tests.tasks.test_own_code import Brightness


class Announced(Brightness):
    """Tells when it is at work."""

    running = threading.Event()

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        self.running.set()
        return super()._infer(patches)


def test_a_second_run_renders_the_saved_grid(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "benexp")
    changed = f"{safe.stem}: configuration, input or benexp changed since its grid was saved: classified anew"
    first = classify(safe, tmp_path, *FAST)
    assert not first["grid_reused"]
    with monkeypatch.context() as patch:
        patch.setattr(Backend, "classify", lambda *_: pytest.fail("the model ran"))
        second = classify(safe, tmp_path, *FAST, "chunking.blend=flat", "layers.names=[class,gap]", "overwrite=true")
    assert second["grid_reused"]
    assert [name for name in second["files"] if name.endswith("_gap.tif")]
    assert not [name for name in second["files"] if name.endswith("_entropy.tif")]
    assert second["backend"] == first["backend"]
    assert changed not in caplog.messages
    other = (safe, tmp_path, *FAST, "chunking.min_valid=0.9", "overwrite=true")
    assert not classify(*other)["grid_reused"]
    assert caplog.messages.count(changed) == 1
    assert not classify(*other, "resume=false")["grid_reused"]
    assert caplog.messages.count(changed) == 1, "that was asked for"


def test_a_backends_own_settings_are_part_of_the_question(safe: Path, tmp_path: Path) -> None:
    """A saved grid is not reused where a user's own key of the backend changed; batch and threads change nothing."""
    settings = ["backend._target_=tests.tasks.test_own_code.Brightness", "backend.gain=1.0"]
    first = classify(safe, tmp_path, *FAST, *settings)
    assert classify(safe, tmp_path, *FAST, *settings, "backend.batch_size=3")["grid_reused"]
    with pytest.raises(BenexpError, match=r"\(backend\.gain=1\.0 there, 0\.5 now\)"):
        classify(safe, tmp_path, *FAST, *settings[:1], "backend.gain=0.5")
    other = classify(safe, tmp_path, *FAST, *settings[:1], "backend.gain=0.5", "overwrite=true")
    assert not other["grid_reused"]
    assert other["map_hash"] != first["map_hash"]


def test_answers_of_another_device_or_version_of_the_engine_are_not_reused(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor chunks of them: a grid would be made of both, and the record name the last."""
    monkeypatch.setattr(Announced, "devices", ("cpu", "cuda"))
    monkeypatch.setattr(Announced, "libraries", ("pytest", "no-such-distribution"))
    asked = (safe, tmp_path, *FAST, f"backend._target_={__name__}.Announced")
    classify(*asked)
    assert classify(*asked, "backend.threads=1")["grid_reused"]
    assert not classify(*asked, "backend.device=cuda")["grid_reused"]
    assert not classify(*asked)["grid_reused"]
    versions = {"pytest": "1.0"}
    monkeypatch.setattr("benexp.runs.grid_key.installed_version", versions.get)
    assert not classify(*asked)["grid_reused"]
    assert classify(*asked)["grid_reused"]


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


def test_a_file_that_was_damaged_since_stops_the_next_run_and_leaves_its_results(tmp_path: Path) -> None:
    safe = write_safe(tmp_path, size=(250, 310), manifest="MD5")
    first = classify(safe, tmp_path / "out", *FAST)
    band = next(safe.rglob("*_B08_10m.jp2"))
    content = bytearray(band.read_bytes())
    content[len(content) // 2] ^= 0xFF
    band.write_bytes(content)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / first["tile"]).iterdir()}
    with pytest.raises(BenexpError, match=r"B08_10m\.jp2 is damaged .*checksum"):
        classify(safe, tmp_path / "out", *FAST, "layers=full")
    assert {path: path.read_bytes() for path in (tmp_path / "out" / first["tile"]).iterdir()} == before


def test_files_are_verified_while_the_model_runs_and_before_anything_has_its_name(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    Announced.running.clear()

    def check_late(*_: object) -> None:
        assert Announced.running.wait(20), "the model waits for what is verified"
        time.sleep(0.5)
        seen.extend(name for name in files_below(tmp_path) if "/." not in name)
        raise BenexpError("B02 is damaged")

    monkeypatch.setattr("benexp.runs.tile_run.check_integrity", check_late)
    with pytest.raises(BenexpError, match="B02 is damaged"):
        classify(safe, tmp_path, *FAST, f"backend._target_={__name__}.Announced")
    assert Announced.running.is_set() and not seen
    assert not files_below(tmp_path)


def test_rasters_of_a_map_that_is_overwritten_do_not_stay_beside_the_new_ones(safe: Path, tmp_path: Path) -> None:
    record = classify(safe, tmp_path, *FAST, "layers=full")
    folder = tmp_path / record["tile"]
    (folder / "notes.txt").write_text("the user's own")
    classify(safe, tmp_path, *FAST, "chunking.blend=flat", "overwrite=true")
    assert not list(folder.glob("*_probs.tif"))
    assert not list(folder.glob("*_multilabel.tif"))
    assert (folder / "notes.txt").exists()
    assert not [name for name in files_below(folder) if "partial" in name or "unfinished" in name]


def test_an_answer_within_a_wider_tolerance_is_not_reused(safe: Path, tmp_path: Path) -> None:
    """The file that gave it might be refused now; other precisions' tolerances, and those of no file, are the same."""
    assert not classify(safe, tmp_path, *FAST)["grid_reused"]
    assert classify(safe, tmp_path, *FAST, "export.tolerance.int8=0.1")["grid_reused"]
    assert not classify(safe, tmp_path, *FAST, "export.tolerance.fp32=0.00009")["grid_reused"]
    null = (safe, tmp_path, *FAST, "backend=null", "overwrite=true")
    assert not classify(*null)["grid_reused"]
    assert classify(*null, "export.tolerance.fp32=0.00009")["grid_reused"]
