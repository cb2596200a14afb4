"""Maps against what is true, through the command line."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benexp import classify
from benexp.cli.app import main
from benexp.core.classes import NAMES
from benexp.records.evaluation import MapEvaluation, decode_evaluation
from benexp.records.storage import to_dict
from tests.products.builders import TEN, random_arrays, write_band, write_folder
from tests.tasks.test_evaluate import COMMON, SHARED, Knows, benv2, refused

pytest.importorskip("sklearn")


def product(folder: Path) -> tuple[Path, np.ndarray]:
    """A folder of bands of 240 x 240 pixels, class 1 in the left half and 4 in the right one, and its truth."""
    arrays = random_arrays((240, 240))
    arrays["B02"][:, :120], arrays["B02"][:, 120:] = 100, 400
    arrays["B03"][:10] = 0
    truth = np.full((240, 240), 4, np.uint8)
    truth[:, :120] = 1
    return write_folder(folder / "scene", arrays=arrays), truth


def figures(folder: Path) -> dict[str, Any]:
    """The record of an evaluated map, which is read as it was written."""
    content = (folder / "evaluation.json").read_bytes()
    found: dict[str, Any] = json.loads(content)
    read = decode_evaluation(content, "evaluation.json")
    assert isinstance(read, MapEvaluation)
    assert to_dict(read) == found
    return found


PLAIN = ("offset=none", "chunking.stride=120", "chunking.blend=flat")


def test_a_tile_is_classified_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, truth = product(tmp_path)
    truth[200:, :60] = 4
    write_band(tmp_path / "truth.tif", truth, 10, nodata=255)
    arguments = [*COMMON, *PLAIN, f"tile_folder={scene}", f"evaluate.reference={tmp_path / 'truth.tif'}"]
    assert main([*arguments, f"output_folder={tmp_path / 'out'}"]) == 0
    folder = tmp_path / "out" / "scene"
    made = {f"scene_{what}" for what in ("confusion.csv", "accuracy.csv", "confusion.png")}
    assert made | {"evaluation.json", "run.json", "scene_class.tif"} <= {path.name for path in folder.iterdir()}
    record = figures(folder)
    assert record["reference_codes"] == "ids"
    assert record["pixels"]["compared"] == 240 * 230
    assert record["pixels"]["left_out"]["without a class in the map"] == 240 * 10
    assert record["confusion"][4][1] == 40 * 60
    assert record["overall_accuracy"] == pytest.approx(1 - 40 * 60 / (240 * 230))
    assert record["classes"][4]["precision"] == 1
    assert record["map_hash"] == json.loads((folder / "run.json").read_text())["map_hash"]
    assert record["backend"]["backend"] == "Knows"
    assert "scene against truth.tif, read as class ids 0 to 18" in capsys.readouterr().out
    with (folder / "scene_confusion.csv").open() as file:
        assert sum(int(row[name]) for row in csv.DictReader(file) for name in NAMES) == 240 * 230


def test_a_region_is_compared_with_its_part_of_the_reference(tmp_path: Path) -> None:
    scene, truth = product(tmp_path)
    truth[200:, :60] = 4
    write_band(tmp_path / "truth.tif", truth, 10, nodata=255)
    arguments = [*COMMON, *PLAIN, f"tile_folder={scene}", f"evaluate.reference={tmp_path / 'truth.tif'}"]
    out = f"output_folder={tmp_path / 'out'}"
    assert main([*arguments, out]) == 0
    whole = (tmp_path / "out" / "scene" / "evaluation.json").read_bytes()
    assert main([*arguments, out, "region.pixels=[190,30,40,100]"]) == 0
    record = figures(tmp_path / "out" / "scene" / "region-190-30-40-100")
    # Of 40 rows 30 are of the part where the reference says 4, in columns 30 to 60.
    assert record["pixels"]["compared"] == 40 * 100
    assert record["confusion"][4][1] == 30 * 30
    assert record["confusion"][4][4] == 40 * 10 and record["confusion"][1][1] == 40 * 90 - 30 * 30
    assert (tmp_path / "out" / "scene" / "evaluation.json").read_bytes() == whole


def test_a_map_that_is_there_is_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene, truth = product(tmp_path)
    codes = np.select([truth == 1, truth == 4], [212, 422]).astype(np.uint16)
    codes[:20] = 124
    # The reference is finer than the map, and half of it lies west of it.
    wide = np.concatenate([codes[:, ::-1], codes], axis=1).repeat(2, 0).repeat(2, 1)
    with rasterio.open(scene / "B02.tif") as band:
        west, north = band.bounds.left, band.bounds.top
    write_band(tmp_path / "clc.tif", wide, 5, origin=(west - 2400, north))
    classify(scene, tmp_path / "maps", "model=demo", *COMMON[2:], *PLAIN)
    mapped = tmp_path / "maps" / "scene" / "scene_class.tif"
    asked = ["task=evaluate", f"evaluate.map={mapped}", f"evaluate.reference={tmp_path / 'clc.tif'}"]
    assert main([*asked, f"output_folder={tmp_path / 'out'}"]) == 0
    record = figures(tmp_path / "out" / "scene")
    assert record["reference_codes"] == "clc"
    assert record["overall_accuracy"] == record["kappa"] == 1
    assert record["pixels"]["left_out"]["of value 124 in the reference"] == 240 * 10
    assert record["model"]["name"] == "demo"
    assert record["notes"] == []
    # Away from its run's record, the map's tags are all that is known.
    shutil.copy(mapped, tmp_path / "scene_class.tif")
    asked[1] = f"evaluate.map={tmp_path / 'scene_class.tif'}"
    assert main([*asked, f"output_folder={tmp_path / 'out'}"]) == 0
    record = figures(tmp_path / "out" / "scene")
    assert (record["backend_name"], record["backend"]) == (f"{Knows.__module__}.Knows", {"precision": "fp32"})
    assert "no run.json of this map is beside it" in caplog.text
    # So they are beside the record of an earlier benexp.
    (tmp_path / "run.json").write_text('{"schema_version": 0}')
    assert main([*asked, f"output_folder={tmp_path / 'out'}"]) == 0
    assert "what its tags hold" in caplog.text and "has schema version 0" in caplog.text


def test_the_demo_has_its_truth_with_it(tmp_path: Path) -> None:
    arguments = ["experiment=demo", "demo.size=240", f"output_folder={tmp_path}"]
    assert main([*arguments, "task=evaluate", *COMMON[2:]]) == 0
    record = figures(next(path.parent for path in tmp_path.glob("*/evaluation.json")))
    assert record["reference"].endswith("_truth.tif")
    with rasterio.open(record["reference"]) as raster:
        valid = int((raster.read(1) != 255).sum())
    assert record["pixels"]["compared"] + record["pixels"]["left_out"]["without a value in the reference"] <= 240**2
    assert record["pixels"]["compared"] <= valid
    assert sum(map(sum, record["confusion"])) == record["pixels"]["compared"] > 0


def test_a_wrong_reference_is_told_before_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene, truth = product(tmp_path)
    write_band(tmp_path / "r.tif", truth + 100, 10)
    asked = [*COMMON, *PLAIN, f"tile_folder={scene}"]
    out = tmp_path / "out"
    assert "are neither class ids" in refused([*asked, f"evaluate.reference={tmp_path / 'r.tif'}"], caplog, out)
    write_band(tmp_path / "r.tif", truth, 10, crs="EPSG:32631")
    assert "warp it first" in refused([*asked, f"evaluate.reference={tmp_path / 'r.tif'}"], caplog, out)
    assert "or evaluate.reference=: name one" in refused(asked, caplog, out)
    assert "name one" in refused([*asked, "evaluate.reference=r", "evaluate.map=m"], caplog, out)
    codes = "evaluate.reference_codes=names"
    assert "takes auto, ids, clc" in refused([*asked, "evaluate.reference=r", codes], caplog, out)


def test_a_reference_map_of_bigearthnet(tmp_path: Path) -> None:
    """Its patch is one of configilm's: laid out as the archive does, it is compared pixel by pixel."""
    found = sorted(SHARED.glob("bigearthnet-v2/Reference_Maps/*/*/*_reference_map.tif"))
    lmdb = pytest.importorskip("lmdb")
    if not found:
        pytest.skip("no reference map here")
    from safetensors.numpy import load

    name = found[0].stem.removesuffix("_reference_map")
    with lmdb.open(str(benv2() / "BigEarthNet-V2-LMDB"), readonly=True, lock=False) as environment:
        arrays = load(environment.begin().get(name.encode()))
    with rasterio.open(found[0]) as raster:
        origin, crs = (raster.bounds.left, raster.bounds.top), raster.crs.to_string()
        codes = raster.read(1)
    for band in TEN:
        path = tmp_path / name / f"{name}_{band}.tif"
        write_band(path, arrays[band], 1200 // len(arrays[band]), block=None, origin=origin, crs=crs)
    asked = [*COMMON, f"tile_folder={tmp_path / name}", f"evaluate.reference={found[0]}"]
    assert main([*asked, f"output_folder={tmp_path / 'out'}"]) == 0
    record = figures(tmp_path / "out" / name)
    assert record["reference_codes"] == "clc"
    assert record["pixels"]["compared"] == 14400
    pixels = {row["class_name"]: row["reference_pixels"] for row in record["classes"] if row["reference_pixels"]}
    assert pixels == {
        "Arable land": int((codes == 211).sum()),
        "Pastures": int((codes == 231).sum()),
        "Broad-leaved forest": int((codes == 311).sum()),
        "Mixed forest": int((codes == 313).sum()),
    }
