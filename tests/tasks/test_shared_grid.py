"""The grid of a tile, which the whole and its regions share: answers to another question are never replaced by it."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benexp import BenexpError, classify
from tests.products.builders import random_arrays, write_folder
from tests.tasks.runs import COUNTING, FAST, HERE, Counting, folder_of, hash_of, rasters

ASKED = (*FAST, *COUNTING, "offset=none")
SHARED = Path("tile", "tile_grid.npz")
REGION = "region.pixels=[0,0,100,100]"


class Meeting(Counting):
    """Another run begins and ends while this one classifies."""

    meanwhile: ClassVar[list[Callable[[], object]]] = []

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super()._infer(patches)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("products") / "tile", arrays=random_arrays((240, 240)))


def test_a_whole_run_keeps_the_grid_of_regions_of_another_stride(product: Path, tmp_path: Path) -> None:
    classify(product, tmp_path, *ASKED, REGION)
    before = (tmp_path / SHARED).read_bytes()
    with pytest.raises(BenexpError, match=r"tile_grid.npz has the answers to another question.* or output_name="):
        classify(product, tmp_path, *ASKED, "chunking.stride=120")
    classify(product, tmp_path, *ASKED, "chunking.stride=120", "output_name=coarse")
    assert (tmp_path / SHARED).read_bytes() == before
    classify(product, tmp_path, *ASKED, "chunking.stride=120", "overwrite=true")
    assert (tmp_path / SHARED).read_bytes() != before


def test_regions_of_two_strides_that_run_at_once_keep_both_answers(product: Path, tmp_path: Path) -> None:
    fine = ("chunking.stride=30", "region.pixels=[60,60,100,100]")
    Meeting.meanwhile.append(lambda: classify(product, tmp_path, *ASKED, *fine))
    coarse = (f"backend._target_={__name__}.Meeting", REGION)
    record = classify(product, tmp_path, *ASKED, *coarse)
    assert not Meeting.meanwhile
    for asked in (fine, coarse):
        assert classify(product, tmp_path, *ASKED, *asked)["grid_reused"]
    alone = classify(product, tmp_path / "alone", *ASKED, REGION, f"backend._target_={HERE}.Counting")
    assert record["map_hash"] == alone["map_hash"]


def test_a_damaged_grid_is_replaced_without_resume(product: Path, tmp_path: Path) -> None:
    right = classify(product, tmp_path, *ASKED)["map_hash"]
    with np.load(tmp_path / SHARED) as saved:
        content = dict(saved)
    np.savez(tmp_path / SHARED, **{**content, "probabilities": content["probabilities"][:1]})
    with pytest.raises(BenexpError, match="not a probability grid"):
        classify(product, tmp_path, *ASKED, REGION)
    assert classify(product, tmp_path, *ASKED, REGION, "resume=false")["region"]
    assert classify(product, tmp_path, *ASKED)["map_hash"] == right


def test_results_stay_protected_where_a_run_was_killed_while_it_published(product: Path, tmp_path: Path) -> None:
    record = classify(product, tmp_path, *ASKED, "layers=full")
    folder = folder_of(tmp_path, record)
    (folder / "run.json").rename(folder / ".run.json")
    with pytest.raises(BenexpError, match="chunking.stride=60 there, 120 now"):
        classify(product, tmp_path, *ASKED, "chunking.stride=120")
    again = classify(product, tmp_path, *ASKED)
    assert "tile_probs.tif" in again["files"] and not (folder / ".run.json").exists()
    assert hash_of(rasters(folder)["tile_class.tif"][0]) == record["map_hash"]


def test_chunks_that_a_region_left_go_once_the_grid_has_them(product: Path, tmp_path: Path) -> None:
    record = classify(product, tmp_path, *ASKED, REGION)
    left = folder_of(tmp_path, record) / f".chunks-{str(record['grid_key'])[:16]}"
    left.mkdir()
    shutil.copy(tmp_path / SHARED, left / "0-0-x.npz")
    assert classify(product, tmp_path, *ASKED, REGION)["grid_reused"]
    assert not left.exists()


def test_a_region_is_warned_about_for_what_it_read_itself(tmp_path: Path) -> None:
    arrays = {band: array // 10 + 3000 for band, array in random_arrays((240, 600)).items()}
    for array in arrays.values():
        array[:, : array.shape[1] // 3] = 500 + array[:, : array.shape[1] // 3] % 100
    halves = write_folder(tmp_path / "tile", arrays=arrays)
    asked = (*FAST, *COUNTING, "offset=-1000")
    dark = classify(halves, tmp_path / "out", *asked, "region.pixels=[0,0,120,100]")
    assert any("set to 1" in warning for warning in dark["warnings"])
    bright = classify(halves, tmp_path / "out", *asked, "region.pixels=[0,480,120,100]")
    assert not any("set to 1" in warning for warning in bright["warnings"])


def test_a_newer_benexp_is_said_for_regions_and_a_key_that_the_record_lacks_is_no_difference(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = classify(product, tmp_path, *ASKED, REGION)
    path = folder_of(tmp_path, record) / "run.json"
    content = json.loads(path.read_text())
    del content["config"]["saturated"]
    path.write_text(json.dumps(content))
    monkeypatch.setattr("benexp.runs.grid_key.__version__", "99")
    with caplog.at_level(logging.INFO):
        again = classify(product, tmp_path, *ASKED, REGION)
    assert "changed since its grid was saved: classified anew" in caplog.text
    assert not again["grid_reused"] and again["map_hash"] == record["map_hash"]
    assert [path.parent.name for path in tmp_path.rglob("*_grid.npz")] == ["tile"]
