"""Regions of many tiles: with workers, in collections, benchmarks and sweeps."""

import json
from pathlib import Path

import numpy as np
import pytest

from benexp import classify
from benexp.cli.app import main
from benexp.core.window import Window
from tests.tasks.runs import HERE, Counting, assert_cut_out, folder_of, hash_of, rasters
from tests.tasks.test_regions import ASKED, made, pixels


class Other(Counting):
    """Other classes here and there."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        answers = super()._infer(patches)
        return np.where(answers > 0.9, answers / 2, answers)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for seed, name in enumerate(("a", "b")):
        made(folder / name, seed)
    return folder


def test_a_region_of_many_tiles_with_and_without_workers(many: Path, tmp_path: Path) -> None:
    window = Window(20, 200, 150, 90)
    asked = [f"input_dir={many}", *ASKED]
    assert main([*asked, f"output_folder={tmp_path / 'whole'}"]) == 0
    assert main([*asked, f"output_folder={tmp_path / 'one'}", pixels(window)]) == 0
    two = [f"output_folder={tmp_path / 'two'}", "execution.workers=2"]
    assert main([*asked, pixels(window), *two]) == 0
    for name in ("a", "b"):
        one, two_ = (tmp_path / out / name / "region-20-200-150-90" for out in ("one", "two"))
        assert_cut_out(rasters(one), rasters(tmp_path / "whole" / name), window)
        same = [path.name for path in one.iterdir() if path.name not in ("run.json", "viewer.html")]
        assert same and all((one / file).read_bytes() == (two_ / file).read_bytes() for file in same)
        records = [json.loads((folder / "run.json").read_text()) for folder in (one, two_)]
        assert records[0]["map_hash"] == records[1]["map_hash"]
    # The catalogue leads to the items, and they lead back.
    for out in ("whole", "one", "two"):
        collection = json.loads((tmp_path / out / "collection.json").read_text())
        items = [link["href"] for link in collection["links"] if link["rel"] == "item"]
        assert len(items) == 2
        for href in items:
            item = json.loads((tmp_path / out / href).read_text())
            back = {link["href"] for link in item["links"] if link["rel"] in ("root", "parent", "collection")}
            assert {((tmp_path / out / href).parent / place).resolve() for place in back} == {
                (tmp_path / out / "collection.json").resolve()
            }
            beside = [asset["href"] for asset in item["assets"].values() if asset["href"].startswith("./")]
            assert len(beside) > 8 and all(((tmp_path / out / href).parent / name).is_file() for name in beside)


def test_regions_beside_the_whole_are_items_of_their_own(many: Path, tmp_path: Path) -> None:
    asked = [f"input_dir={many}", f"output_folder={tmp_path}", *ASKED]
    assert main(asked) == main([*asked, pixels(Window(0, 300, 60, 60))]) == 0
    collection = json.loads((tmp_path / "collection.json").read_text())
    items = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    assert len(items) == 4
    assert len({json.loads((tmp_path / href).read_text())["id"] for href in items}) == 4


def test_a_benchmark_of_a_region_measures_the_cut_out(many: Path, tmp_path: Path, no_plots: None) -> None:
    window = Window(20, 200, 150, 90)
    asked = [f"input_dir={many}", f"output_folder={tmp_path / 'out'}", "task=benchmark", *ASKED, "layers.names=[class]"]
    assert main([*asked, pixels(window)]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for tile in report["tiles"]:
        assert tile["folder"] == f"{tile['tile']}/region-20-200-150-90"
        whole = classify(many / tile["tile"], tmp_path / "maps", *ASKED)
        classes = rasters(folder_of(tmp_path / "maps", whole))[f"{tile['tile']}_class.tif"][0]
        assert tile["map_hash"] == hash_of(classes[window.slices])
        assert tile["km2"] == pytest.approx(window.height * window.width / 1e4)
    assert main([*asked, pixels(window)]) == 0
    again = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(tile["reused"] for tile in again["tiles"])


def test_a_sweep_compares_the_maps_of_a_region(many: Path, tmp_path: Path, no_plots: None) -> None:
    asked = [f"input_dir={many}", f"output_folder={tmp_path}", "task=benchmark", *ASKED, "layers.names=[class]"]
    backends = f"backend._target_={HERE}.Counting,{__name__}.Other"
    assert main([*asked, "-m", backends, "benchmark.repeat=1", pixels(Window(60, 420, 130, 130))]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    maps: list[np.ndarray] = []
    for configuration in report["configurations"]:
        (job,) = tmp_path.glob(f"jobs/{configuration['config_hash'][:12]}/1")
        parts = [rasters(job / name / "region-60-420-130-130")[f"{name}_class.tif"][0] for name in ("a", "b")]
        maps.append(np.concatenate(parts))
    flips = [configuration["flips_per_million"] for configuration in report["configurations"]]
    page = (tmp_path / "viewer.html").read_text()
    assert all(f"{name}/region-60-420-130-130/viewer.html" in page for name in ("a", "b"))
    assert sorted(flips)[0] == 0 < sorted(flips)[1] == pytest.approx(1e6 * float(np.mean(maps[0] != maps[1])))
