"""Maps of several backends side by side: figures known by hand, every refusal, and the real engines once."""

import json
import logging
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rio_cogeo.cogeo import cog_validate

from benexp import classify
from benexp.backends.base import Backend
from benexp.cli.app import main
from benexp.config.groups import groups
from benexp.core.classes import NAMES
from benexp.demo.product import write_product
from benexp.runs.backend_choice import BackendChoice
from benexp.runs.backend_list import entries_of
from tests.products.builders import RESOLUTIONS, random_arrays, write_folder
from tests.tasks.compared_backends import Table
from tests.tasks.runs import files_below

HERE = "tests.tasks.compared_backends"
FAST = ("task=compare", "model=demo", "offset=none", "chunking.stride=120")
DARK, BRIGHT = 1000, 3000


@pytest.fixture(autouse=True)
def nothing_open() -> None:
    Table.opened.clear()
    Table.open_now.clear()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patches side by side, 120 x 240 pixels in all: the left is dark, the right is bright."""
    arrays = random_arrays((120, 240))
    for band, array in arrays.items():
        array[:] = DARK
        array[:, 1200 // RESOLUTIONS[band] :] = BRIGHT
    return write_folder(tmp_path_factory.mktemp("products") / "halves", arrays=arrays)


def run(product: Path, out: Path, *entries: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Compare classes of this module; the record."""
    names = ",".join(f"{HERE}.{entry}" for entry in entries)
    assert main([f"tile_folder={product}", f"output_folder={out}", f"backends=[{names}]", *FAST, *more]) == 0
    record: dict[str, Any] = json.loads((out / product.name / "comparison.json").read_text())
    return record


def test_the_figures_are_those_of_the_two_maps(product: Path, tmp_path: Path) -> None:
    record = run(product, tmp_path, "Table", "Other", more=("backend.batch_size=1", "backend.threads=2"))
    reference, other = record["backends"]
    assert record["compared_pixels"] == 120 * 240
    assert other["flips_per_million"] == other["beyond_ties_per_million"] == 500_000
    assert other["tie_tolerance"] == record["config"]["export"]["tolerance"]["fp32"]
    assert other["prob_diff_max"] == pytest.approx(0.4)
    assert other["prob_diff_mean"] == pytest.approx(0.2)
    assert other["prob_diff_p99"] == pytest.approx(0.4, rel=0.01)
    assert [change["class_name"] for change in other["area_change"]] == list(NAMES)
    changed = {c["class_id"]: (c["hectares"], c["share"]) for c in other["area_change"] if c["hectares"]}
    assert changed == {2: (-144, -0.5), 3: (144, 0.5)}
    assert other["flips"] == [{"reference": NAMES[2], "candidate": NAMES[3], "pixels": 14400}]
    for key in ("flips_per_million", "beyond_ties_per_million", "prob_diff_max", "prob_diff_mean", "prob_diff_p99"):
        assert reference[key] == 0
    assert reference["speed_ratio"] == 1
    assert other["speed_ratio"] == pytest.approx(
        other["patches_per_second"] / reference["patches_per_second"], rel=0.01
    )
    assert reference["map_hash"] != other["map_hash"]
    assert [b["describe"]["batch_size"] for b in record["backends"]] == [1, 1]
    assert [b["describe"]["threads"] for b in record["backends"]] == [2, 2]
    assert record["environment"]["cores"] >= 1
    # Each is tried first, then has its turn.
    assert Table.opened == ["Table", "Other"] * 2
    (tmp_path / product.name / "comparison.json").unlink()
    assert main(shlex.split(record["command"])[1:]) == 0
    again = json.loads((tmp_path / product.name / "comparison.json").read_text())
    assert [b["map_hash"] for b in again["backends"]] == [b["map_hash"] for b in record["backends"]]


def test_the_flips_lie_where_the_tile_lies(product: Path, tmp_path: Path) -> None:
    record = run(product, tmp_path, "Table", "Other")
    folder = tmp_path / product.name
    stem = f"{HERE}.Other_flips"
    with rasterio.open(product / "B02.tif") as band, rasterio.open(folder / f"{stem}.tif") as raster:
        assert (raster.crs, raster.transform, raster.shape) == (band.crs, band.transform, band.shape)
        assert (raster.dtypes, raster.nodata) == (("uint8",), 255)
        values = raster.read(1)
        assert raster.colormap(1)[2][:3] == (0xD0, 0x02, 0x1B)
        assert raster.tags()["REFERENCE"] == f"{HERE}.Table"
        assert raster.tags()["CANDIDATE"] == f"{HERE}.Other"
    assert (values[:, :120] == 0).all() and (values[:, 120:] == 2).all()
    assert cog_validate(folder / f"{stem}.tif", quiet=True)[:2] == (True, [])
    assert "differs beyond a tie" in (folder / f"{stem}.tif.aux.xml").read_text()
    with Image.open(folder / f"{stem}.png") as picture:
        assert picture.width > 1024
    suffixes = (".tif", ".tif.aux.xml", ".qml", ".png")
    assert {path.name for path in folder.iterdir()} == {"comparison.json", *(f"{stem}{suffix}" for suffix in suffixes)}
    assert set(record["files"]) == {f"{stem}{suffix}" for suffix in suffixes}


def test_ties_are_told_by_fp32_s_tolerance_and_another_reference_is_noted(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = run(product, tmp_path, "Rounded:bf16", "Unlike:bf16")
    other = record["backends"][1]
    assert (other["flips_per_million"], other["beyond_ties_per_million"]) == (500_000, 500_000)
    assert other["tie_tolerance"] == 1e-4
    assert "is bf16" in record["notes"][0]
    assert record["notes"][0] in caplog.text
    lax = run(product, tmp_path, "Rounded:bf16", "Unlike:bf16", more=("export.tolerance.fp32=0.06",))["backends"][1]
    assert (lax["flips_per_million"], lax["beyond_ties_per_million"]) == (500_000, 0)


def test_the_table_says_it_all(product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(product, tmp_path, "Table", "Other")
    head, reference, other, *rest = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["backend", "precision", "batch", "patches/s", "ratio"]
    assert reference.split()[1:3] == ["fp32", "32"] and reference.endswith("reference")
    cells = other.split()
    assert cells[0] == f"{HERE}.Other" and cells[-4:] == ["500,000", "500,000", "4.0e-01", "4.0e-01"]
    assert other.index("500,000") + len("500,000") == head.index("flips/million") + len("flips/million")
    assert any("comparison.json" in line for line in rest)


def test_a_map_is_the_one_that_classify_makes_but_never_its_saved_grid(product: Path, tmp_path: Path) -> None:
    settings = FAST[1:], f"backend._target_={HERE}.Table"
    made = classify(product, tmp_path, *settings[0], settings[1])
    before = set(files_below(tmp_path))
    Table.opened.clear()
    record = run(product, tmp_path, "Table", "Other")
    assert record["backends"][0]["map_hash"] == made["map_hash"]
    assert Table.opened == ["Table", "Other"] * 2
    assert before < set(files_below(tmp_path))
    run(product, tmp_path, "Table", "Rounded:bf16")
    assert not [name for name in files_below(tmp_path) if "Other" in name]
    assert before < set(files_below(tmp_path))


def test_a_fallback_stops_it_or_is_noted(product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = f"[{HERE}.Table,{HERE}.Fallen]"
    assert main([f"tile_folder={product}", f"output_folder={tmp_path}", f"backends={names}", *FAST]) == 1
    assert "wonders was asked for, but cpu is what would run" in caplog.messages[0]
    record = run(product, tmp_path, "Table", "Fallen", more=("backend.allow_fallback=true",))
    assert record["notes"] == [f"{HERE}.Fallen ran on cpu in place of wonders"]


@pytest.mark.parametrize(
    ("backends", "more", "message"),
    [
        ("[torch]", (), "takes at least two"),
        ("[]", (), "names: null, onnxruntime-cpu"),
        ("[torch,onnx]", (), f"onnx: unknown name, it takes {', '.join(groups()['backend'])}"),
        ("[torch,null,torch]", (), "torch and torch are the same"),
        ("[torch,torch:fp32]", (), "torch and torch:fp32 are the same"),
        ("[torch,onnxruntime-cpu:fp8]", (), "backends: onnxruntime-cpu:fp8: backend.precision=fp8: "),
        ("[torch,torch:bf16:tpu]", (), "TorchBackend takes cpu, cuda"),
        ("[torch,'torch:']", (), "takes name, name:precision or name:precision:device"),
        ("[torch,no.such.Backend]", (), "no.such.Backend: cannot be imported"),
        ("[torch,null]", ("backend.precision=bf16",), "precision and device are part of an entry"),
        ("[torch,null]", ("chunking.chunk_size=100",), "chunking.chunk_size=100"),
    ],
)
def test_a_wrong_question_is_one_line_before_any_work(
    backends: str,
    more: tuple[str, ...],
    message: str,
    product: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BackendChoice, "make", lambda *_, **__: pytest.fail("a backend was made"))
    arguments = [f"tile_folder={product}", f"output_folder={tmp_path / 'out'}", f"backends={backends}", *FAST, *more]
    assert main(arguments) == 1
    assert len(caplog.messages) == 1
    assert message in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    assert not (tmp_path / "out").exists()


def test_one_product_is_compared_not_many(product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "in" / "a", size=(130, 130))
    write_folder(tmp_path / "in" / "b", size=(130, 130))
    arguments = [f"input_dir={tmp_path / 'in'}", f"output_folder={tmp_path / 'out'}", "backends=[torch,null]", *FAST]
    assert main(arguments) == 1
    assert "takes one product, there are 2" in caplog.messages[0]


def test_all_that_cannot_run_is_told_before_the_long_work(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benexp.mapping.pipeline.classify", lambda *_, **__: pytest.fail("the long work started"))
    names = f"[{HERE}.Missing,{HERE}.Table,{HERE}.Broken]"
    assert main([f"tile_folder={product}", f"output_folder={tmp_path / 'out'}", f"backends={names}", *FAST]) == 1
    assert len(caplog.messages) == 1
    line = caplog.messages[0]
    assert line.startswith("2 of 3 backends cannot run here, nothing was compared: ")
    assert f"{HERE}.Missing: Missing needs wonders: pip install wonders" in line
    assert f"{HERE}.Broken: " in line and "no such device" in line
    assert not (tmp_path / "out").exists()


def test_a_backend_that_breaks_later_leaves_nothing(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = f"[{HERE}.Table,{HERE}.Relapsing]"
    with caplog.at_level(logging.ERROR):
        assert main([f"tile_folder={product}", f"output_folder={tmp_path / 'out'}", f"backends={names}", *FAST]) == 1
    assert "it broke in the middle" in caplog.text
    assert not (tmp_path / "out" / product.name).exists()
    assert not Table.open_now


def test_a_tile_without_data_is_no_comparison(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = {band: np.zeros_like(array) for band, array in random_arrays((120, 240)).items()}
    empty = write_folder(tmp_path / "empty", arrays=arrays)
    names = f"[{HERE}.Table,{HERE}.Other]"
    assert main([f"tile_folder={empty}", f"output_folder={tmp_path / 'out'}", f"backends={names}", *FAST]) == 1
    assert "empty: no pixel could be classified" in caplog.text
    assert not files_below(tmp_path / "out")


def test_a_dry_run_opens_nothing(product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = f"[{HERE}.Table,{HERE}.Other]"
    arguments = [f"tile_folder={product}", f"output_folder={tmp_path / 'out'}", f"backends={names}", "dry_run=true"]
    assert main([*arguments, *FAST]) == 0
    said = capsys.readouterr().out
    assert "240 x 120 pixels; 2 patches" in said
    assert f"classified 2 times, with {HERE}.Table, {HERE}.Other" in said
    assert not Table.opened
    assert not (tmp_path / "out").exists()


def test_int8_is_calibrated_on_the_product_once(product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given = [], []

    def range_patches_of(products: list[Path], *_: Any) -> str:
        asked.append(products)
        return "the calibration"

    def make(_self: Any, spec: Any, *, range_patches: Any, **_: Any) -> Backend:
        given.append(range_patches)
        return Table(spec)

    monkeypatch.setattr("benexp.runs.quantization.range_patches_of", range_patches_of)
    monkeypatch.setattr(BackendChoice, "make", make)
    # Without a file to quantise there is nothing to calibrate.
    run(product, tmp_path, "Table", "Rounded:int8")
    assert set(given) == {None}
    assert not asked
    given.clear()
    run(product, tmp_path, "Table", "Quantised:int8", "Quantised:bf16")
    assert asked == [[product]]
    assert set(given) == {"the calibration"}


def test_every_backend_of_the_group_can_be_named() -> None:
    names = groups()["backend"]
    config = SimpleNamespace(backends=names, backend={"batch_size": 8, "threads": 3, "precision": "bf16"})
    own = {entry.label: entry.backend.settings for entry in entries_of(config, ())}  # type: ignore[arg-type]
    assert list(own) == names
    assert own["openvino"]["batch_size"] != own["torch"]["batch_size"]
    for entry in entries_of(config, ("++backend.batch_size=8",)):  # type: ignore[arg-type]
        # What the user says holds for all; the configuration's own backend lends nothing else.
        assert entry.backend.settings == own[entry.label] | {"batch_size": 8}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("demo"), 360)[0]


def test_real_engines_on_the_demo_product(demo: Path, tmp_path: Path) -> None:
    arguments = [f"tile_folder={demo}", f"output_folder={tmp_path}", "backends=[torch,onnxruntime-cpu,null:fp32]"]
    assert main([*arguments, "task=compare", "model=demo"]) == 0
    record = json.loads(next(tmp_path.glob("*/comparison.json")).read_text())
    torch, onnx, null = record["backends"]
    assert [b["label"] for b in record["backends"]] == ["torch", "onnxruntime-cpu", "null:fp32"]
    assert 0 < onnx["prob_diff_max"] < 1e-4
    assert onnx["prob_diff_mean"] <= onnx["prob_diff_p99"] <= onnx["prob_diff_max"]
    assert onnx["flips_per_million"] < 10
    assert (onnx["flips_per_million"] == 0) == (onnx["map_hash"] == torch["map_hash"])
    assert null["flips_per_million"] > 500_000
    assert sum(change["hectares"] for change in null["area_change"]) == pytest.approx(0, abs=1e-6)
    assert {f"{name}_flips.tif" for name in ("onnxruntime-cpu", "null-fp32")} < set(record["files"])


def test_openvino_beside_torch(demo: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arguments = [f"tile_folder={demo}", f"output_folder={tmp_path}", "backends=[torch,openvino]"]
    assert main([*arguments, "task=compare", "model=demo", "region.pixels=[0,0,240,240]"]) == 0
    record = json.loads(next(tmp_path.glob("*/region-0-0-240-240/comparison.json")).read_text())
    openvino = record["backends"][1]
    assert openvino["prob_diff_max"] < 1e-4
    assert openvino["beyond_ties_per_million"] == 0
