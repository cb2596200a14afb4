"""Regions of a tile: parts of its one map, whatever was mapped before them, beside them or after them."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rasterio

from benexp import BenexpError, classify
from benexp.cli.app import main
from benexp.core.window import Window
from benexp.mapping.grid import CLASSIFIED, NOT_ASKED, SKIPPED
from benexp.mapping.resume import KeptChunks
from tests.products.builders import random_arrays, write_folder
from tests.tasks.runs import COUNTING, FAST, HERE, Counting, assert_cut_out, contents, folder_of, hash_of, rasters

ROOT = Path(__file__).parents[2]
SIZE = (250, 700)
"""Wider than the blocks in which maps are rendered."""
ASKED = (*FAST, *COUNTING, "offset=none")


class Crowded(Counting):
    """Does something else while it is at work on its first patches."""

    meanwhile: ClassVar[list[Callable[[], None]]] = []

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super()._infer(patches)


class Mortal(Counting):
    """Is killed before its batch number DIE_AT."""

    batches = 0

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        type(self).batches += 1
        if self.batches == int(os.environ.get("DIE_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._infer(patches)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product of 4 x 11 patches, with a corner without data and varying brightness."""
    return made(tmp_path_factory.mktemp("products") / "tile")


def made(folder: Path, seed: int = 0) -> Path:
    arrays = random_arrays(SIZE, seed=seed)
    for array in arrays.values():
        height, width = array.shape
        array[:] = array // 2 + np.linspace(0, 2000, width).astype(np.uint16) + np.arange(height)[:, None].astype("u2")
        array[: height // 2, : width // 6] = 0
    return write_folder(folder, arrays=arrays)


@pytest.fixture(scope="module")
def whole(product: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the layers of the whole tile."""
    out = tmp_path_factory.mktemp("whole")
    record = classify(product, out, *ASKED, "layers=full")
    return record, rasters(out / "tile")


def pixels(window: Window) -> str:
    return f"region.pixels=[{','.join(map(str, window))}]"


def grid_of(out: Path) -> dict[str, np.ndarray]:
    with np.load(next(out.glob("*/*_grid.npz"))) as saved:
        return dict(saved)


@pytest.mark.parametrize(
    "window",
    [
        Window(31, 310, 58, 58),  # smaller than a patch
        Window(100, 480, 60, 70),  # over the edge of a block
        Window(249, 699, 1, 1),
        Window(0, 0, 130, 150),  # half of it without data
        Window(0, 0, 250, 700),
    ],
    ids=str,
)
def test_any_region_is_the_cut_out_of_the_whole_map(
    window: Window, product: Path, whole: tuple[dict[str, Any], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    record = classify(product, tmp_path, *ASKED, "layers=full", pixels(window))
    folder = folder_of(tmp_path, record)
    assert folder == tmp_path / "tile" / f"region-{window.row}-{window.col}-{window.height}-{window.width}"
    part = rasters(folder)
    assert_cut_out(part, whole[1], window)
    assert record["map_hash"] == hash_of(whole[1]["tile_class.tif"][0][window.slices])
    assert (tuple(record["region"]), tuple(record["shape"])) == (tuple(window), window.shape)
    assert tuple(record["tile_shape"]) == SIZE
    assert record["valid_pixels"] == (part["tile_class.tif"] != 255).sum()
    with rasterio.open(product / "B02.tif") as band, rasterio.open(folder / "tile_class.tif") as raster:
        assert (raster.crs, raster.bounds[:1], raster.bounds[3:]) == (
            band.crs,
            band.xy(window.row, window.col, offset="ul")[:1],
            band.xy(window.row, window.col, offset="ul")[1:],
        )
    with (folder / "areas.csv").open() as file:
        rows = [(int(row["class_id"]), float(row["hectares"])) for row in csv.DictReader(file)]
    areas = {number: hectares for number, hectares in rows if number < 19}
    counts = np.bincount(part["tile_class.tif"].ravel(), minlength=256)[:19]
    assert areas == pytest.approx({number: count / 100 for number, count in enumerate(counts)})
    # Nothing of the region lies in the folder of the whole, but for the grid that they share.
    assert {path.name for path in (tmp_path / "tile").iterdir()} == {folder.name, "tile_grid.npz"}


def test_two_halves_have_no_seam(
    product: Path, whole: tuple[dict[str, Any], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    halves = []
    for number, window in enumerate((Window(0, 0, 250, 333), Window(0, 333, 250, 367))):
        record = classify(product, tmp_path / str(number), *ASKED, "layers=full", pixels(window))
        halves.append(rasters(folder_of(tmp_path / str(number), record)))
    for name, values in whole[1].items():
        assert np.concatenate([half[name] for half in halves], axis=2).tobytes() == values.tobytes(), name


def test_the_demo_models_region_is_the_cut_out(product: Path, tmp_path: Path) -> None:
    """A real engine, whose answers may depend in the last bit on a patch's place in its batch."""
    asked = (product, tmp_path, *FAST, "offset=none", "layers=full")
    window = Window(60, 470, 100, 140)
    region, whole = classify(*asked, pixels(window), "resume=false"), classify(*asked, "resume=false")
    part, full = rasters(folder_of(tmp_path, region)), rasters(folder_of(tmp_path, whole))
    assert region["map_hash"] == hash_of(full["tile_class.tif"][0][window.slices])
    difference = part["tile_probs.tif"] - full["tile_probs.tif"][:, *window.slices]
    assert np.nanmax(np.abs(difference)) < 1e-5


def test_regions_first_and_the_whole_later_classifies_what_is_missing(
    product: Path, whole: tuple[dict[str, Any], dict[str, np.ndarray]], tmp_path: Path, classified: list[int]
) -> None:
    asked = (product, tmp_path, *ASKED, "layers=full")
    count = whole[0]["patches"]["classified"]
    first = classify(*asked, pixels(Window(100, 310, 58, 58)))
    # Columns 240 to 360 and rows 0, 60, 120, 130: but 0 begins above and ends at 120.
    assert sum(classified) == first["patches"]["classified"] == 3 * 4
    second = classify(*asked, pixels(Window(100, 300, 58, 200)))
    assert 12 < sum(classified) < 12 + second["patches"]["classified"], "those of both were known"
    states = grid_of(tmp_path)["patch_states"]
    assert {int(state) for state in np.unique(states)} == {NOT_ASKED, CLASSIFIED}
    before = sum(classified)
    record = classify(*asked)
    assert not record["grid_reused"] and sum(classified) == count > before
    assert record["map_hash"] == whole[0]["map_hash"]
    assert_cut_out(rasters(tmp_path / "tile"), whole[1], Window(0, 0, *SIZE))
    assert {int(state) for state in np.unique(grid_of(tmp_path)["patch_states"])} == {SKIPPED, CLASSIFIED}
    # Then nothing is missing, of any region.
    assert classify(*asked, pixels(Window(7, 7, 30, 300)))["grid_reused"]
    assert sum(classified) == count
    # What the earlier ones wrote is as it was.
    assert hash_of(rasters(folder_of(tmp_path, first))["tile_class.tif"][0]) == first["map_hash"]


def test_the_whole_and_its_region_do_not_touch_each_others_results(product: Path, tmp_path: Path) -> None:
    classify(product, tmp_path, *ASKED)
    before = contents(tmp_path)
    record = classify(product, tmp_path, *ASKED, pixels(Window(0, 300, 130, 150)))
    assert record["grid_reused"]
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before


def test_two_regions_at_once_both_succeed_and_the_grid_has_both(
    product: Path, tmp_path: Path, classified: list[int]
) -> None:
    """The second begins and ends, in a process of its own, while the first is at work."""
    windows = Window(0, 130, 130, 200), Window(60, 250, 190, 250)
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED, f"backend._target_={__name__}.Crowded"]
    ended: list[subprocess.CompletedProcess[str]] = []

    def other() -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "benexp", *asked, pixels(windows[1])]
        ended.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=False))

    Crowded.meanwhile.append(other)
    assert main([*asked, pixels(windows[0])]) == 0
    assert ended[0].returncode == 0, ended[0].stderr
    classified.clear()
    for window in windows:
        assert main([*asked, pixels(window)]) == 0
    assert not classified, "the grid has the patches of both"
    assert (grid_of(tmp_path)["patch_states"] == NOT_ASKED).any()
    expected = classify(product, tmp_path / "alone", *asked[2:])
    assert classify(product, tmp_path, *asked[2:])["map_hash"] == expected["map_hash"]
    together, alone = grid_of(tmp_path), grid_of(tmp_path / "alone")
    for name in ("probabilities", "patch_states", "read", "valid"):
        assert np.array_equal(together[name], alone[name]), name
    assert not [name for name in contents(tmp_path) if "lock" in name]


def test_the_same_region_twice_at_once_is_refused(product: Path, tmp_path: Path) -> None:
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED, f"backend._target_={__name__}.Crowded"]
    ended: list[int] = []
    Crowded.meanwhile.append(lambda: ended.append(main([*asked, pixels(Window(0, 300, 60, 60))])))
    assert main([*asked, pixels(Window(0, 300, 60, 60))]) == 0
    assert ended == [1]


def test_a_killed_region_goes_on(
    product: Path, whole: tuple[dict[str, Any], dict[str, np.ndarray]], tmp_path: Path, classified: list[int]
) -> None:
    window = Window(0, 130, 250, 400)
    asked = [*ASKED, "layers=full", f"backend._target_={__name__}.Mortal", pixels(window)]
    command = [sys.executable, "-m", "benexp", f"tile_folder={product}", f"output_folder={tmp_path}", *asked]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIE_AT": "7"}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not list(tmp_path.rglob("run.json")) and not list(tmp_path.rglob("*.tif"))
    record = classify(product, tmp_path, *asked)
    assert record["resumed_chunks"] > 0
    assert 0 < sum(classified) < record["patches"]["classified"]
    assert_cut_out(rasters(folder_of(tmp_path, record)), whole[1], window)
    assert not list(tmp_path.rglob(".*"))


def test_a_run_that_was_interrupted_leaves_its_chunks_to_no_other_region(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each region keeps its own, in the folder of its results: two at once do not remove each other's."""
    keep = KeptChunks.keep

    def interrupted(self: KeptChunks, *given: Any) -> None:
        keep(self, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(KeptChunks, "keep", interrupted)
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED]
    with pytest.raises(KeyboardInterrupt):
        classify(product, tmp_path, *ASKED, pixels(Window(0, 300, 250, 300)))
    monkeypatch.undo()
    assert main([*asked, pixels(Window(0, 500, 60, 60))]) == 0
    record = classify(product, tmp_path, *ASKED, pixels(Window(0, 300, 250, 300)))
    assert record["resumed_chunks"] == 1


def test_a_comparison_of_a_region_is_the_cut_out_of_that_of_the_whole(product: Path, tmp_path: Path) -> None:
    window = Window(40, 300, 90, 120)
    backends = f"backends=[{HERE}.Counting,null]"
    asked = [f"tile_folder={product}", "task=compare", "offset=none", "model=demo", backends]
    assert main([*asked, f"output_folder={tmp_path / 'whole'}"]) == 0
    assert main([*asked, f"output_folder={tmp_path / 'part'}", pixels(window)]) == 0
    folder = tmp_path / "part" / "tile" / "region-40-300-90-120"
    whole, part = rasters(tmp_path / "whole" / "tile"), rasters(folder)
    assert_cut_out(part, whole, window)
    record = json.loads((folder / "comparison.json").read_text())
    assert record["compared_pixels"] == window.height * window.width
    assert (record["region"], record["shape"]) == (list(window), list(window.shape))
    mapped = classify(product, tmp_path / "map", *ASKED, pixels(window))
    assert record["backends"][0]["map_hash"] == mapped["map_hash"]


def test_a_comparison_of_a_region_that_fails_leaves_no_folder(product: Path, tmp_path: Path) -> None:
    backends = f"backends=[{HERE}.Counting,null]"
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", "task=compare", "offset=none", "model=demo"]
    assert main([*asked, backends, pixels(Window(0, 0, 10, 10))]) == 1
    assert not list(tmp_path.iterdir())


def test_int8_is_quantised_on_the_whole_tile(product: Path, tmp_path: Path) -> None:
    """Else a region's file would be another, and its map no cut-out."""
    int8 = ("backend=onnxruntime-cpu", "backend.precision=int8", "quantization.patches=8", "export.tolerance.int8=1")
    asked = (product, tmp_path, *FAST, "offset=none", *int8)
    window = Window(60, 470, 100, 140)
    region = classify(*asked, pixels(window))
    whole = classify(*asked, "resume=false")
    assert region["grid_key"] == whole["grid_key"]
    assert region["range_patches"] == whole["range_patches"] == "up to 8 patches of tile"
    classes = rasters(folder_of(tmp_path, whole))["tile_class.tif"][0]
    assert region["map_hash"] == hash_of(classes[window.slices])
    with pytest.raises(BenexpError, match="quantization.patches=8 there, 9 now"):
        classify(*asked, "quantization.patches=9")
