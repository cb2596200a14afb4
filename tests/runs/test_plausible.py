"""What looks wrong is said, or stops the tile, by name."""

from pathlib import Path

import numpy as np
import pytest

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from tests.products.builders import random_arrays, write_folder
from tests.tasks.runs import files_below

SIZE = (360, 400)
NULL = ("backend=null", "model=demo")


class Constant(Backend):
    """Answers like a model that was damaged; a user's own class, which needs no file of benexp's."""

    damaged = True

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        answers = np.full((len(patches), 19), 0.5, np.float32)
        return answers if self.damaged else (answers * patches.mean((1, 2, 3))[:, None] / 65535).astype(np.float32)


class Nan(Backend):
    """Answers like a model that overflowed."""

    needs = "checkpoint"

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        return np.where(np.arange(19) == 7, np.nan, np.full((len(patches), 19), 0.5)).astype(np.float32)


def test_a_model_that_answers_nan_stops_the_tile(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "product", size=SIZE)
    with pytest.raises(BenexpError, match="demo on Nan at fp32 answered NaN"):
        classify(product, tmp_path / "out", "model=demo", "offset=none", f"backend._target_={__name__}.Nan")
    assert not files_below(tmp_path / "out")


def test_a_model_that_always_says_the_same_stops_the_tile(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "product", size=SIZE)
    asked = ("model=demo", "offset=none", f"backend._target_={__name__}.Constant")
    with pytest.raises(BenexpError, match="demo on Constant answers the same for all"):
        classify(product, tmp_path / "out", *asked)
    assert not files_below(tmp_path / "out"), "the chunks would make the next run fail the same way"
    # Random weights promise nothing, and null is no model.
    classify(product, tmp_path / "out", *asked, "model.weights=random")
    classify(product, tmp_path / "null", *NULL, "offset=none")


def test_a_model_that_was_mended_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (write_folder(tmp_path / "product", size=SIZE), tmp_path / "out", "model=demo", "offset=none")
    with pytest.raises(BenexpError, match="answers the same"):
        classify(*asked, f"backend._target_={__name__}.Constant")
    monkeypatch.setattr(Constant, "damaged", False)
    record = classify(*asked, f"backend._target_={__name__}.Constant")
    assert not record["grid_reused"] and record["resumed_chunks"] == 0


def test_an_offset_left_in_and_a_dead_band_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = {band: array + 1000 for band, array in random_arrays(SIZE).items()}
    product = write_folder(tmp_path / "product", arrays=arrays, size=SIZE)
    record = classify(product, tmp_path / "out", *NULL, "offset=none")
    assert any("set offset=-1000" in warning for warning in record["warnings"])
    assert "set offset=-1000" in caplog.text
    # The saved grid remembers.
    assert classify(product, tmp_path / "out", *NULL, "offset=none")["warnings"] == record["warnings"]
    assert not classify(product, tmp_path / "applied", *NULL, "offset=-1000")["warnings"]
    arrays["B11"][:] = 7
    dead = write_folder(tmp_path / "dead", arrays=arrays, size=SIZE)
    warnings = classify(dead, tmp_path / "out", *NULL, "offset=none")["warnings"]
    assert any("B11 is 7 in every pixel" in warning for warning in warnings)


def test_a_band_that_is_nodata_is_named(tmp_path: Path) -> None:
    arrays = random_arrays(SIZE)
    arrays["B11"][: SIZE[0] // 4] = 0
    half = classify(write_folder(tmp_path / "half", arrays=arrays), tmp_path / "out", *NULL, "offset=none")
    assert [warning for warning in half["warnings"] if "nodata or saturated in B11 (50 %)" in warning]
    arrays["B11"][:] = 0
    dead = write_folder(tmp_path / "dead", arrays=arrays)
    with pytest.raises(BenexpError, match=r"no patch can be classified: .* nodata or saturated in B11 \(100 %\)"):
        classify(dead, tmp_path / "out", *NULL, "offset=none")
    assert not files_below(tmp_path / "out" / "dead")
