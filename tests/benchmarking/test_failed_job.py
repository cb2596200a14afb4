"""Jobs of a sweep that fail before they measure anything."""

import shutil
from pathlib import Path

import pytest

from benexp.cli.app import main
from benexp.core.files import staging
from tests.benchmarking.builders import FAST, report, start, table, write


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), only=None)


@pytest.mark.parametrize(
    ("wrong", "name", "reason"),
    [
        ("model=onnx model.path=no.onnx", "null", "no.onnx"),
        ("model.weights=folder model.path=nowhere", "null", "nowhere"),
    ],
)
def test_each_is_a_row_with_its_reason(products: Path, tmp_path: Path, wrong: str, name: str, reason: str) -> None:
    assert start(products, tmp_path, "-m", *wrong.split(), "benchmark.repeat=1,2") == 1
    (failed,) = report(tmp_path)["configurations"]
    assert (failed["configuration"], failed["failed"], failed["median"]) == (name, [1, 2], None)
    (error,) = failed["errors"]
    assert reason in error and reason in failed["left_out"]
    rows = table(tmp_path)
    assert [(row["tile_name"], row["status"], reason in row["error"]) for row in rows] == [("", "failed", True)] * 2
    assert rows[0]["config_hash"] == failed["config_hash"]
    assert report(tmp_path)["recommendation"]["configuration"] is None


def test_the_others_go_on(products: Path, tmp_path: Path) -> None:
    # The network was not trained on patches of 60 pixels, which is known once the model is.
    assert start(products, tmp_path, "-m", "chunking.patch_size=60,120", "chunking.stride=60") == 1
    found = {one["configuration"]: one["status"] for one in report(tmp_path)["configurations"]}
    assert found == {"null, chunking.patch_size=60": "failed", "null, chunking.patch_size=120": "done"}


def test_what_was_measured_before_is_kept_for_the_next_time(products: Path, tmp_path: Path) -> None:
    moved = tmp_path / "products"
    shutil.copytree(products, moved)
    assert start(moved, tmp_path / "out", "-m", "benchmark.repeat=1") == 0
    before = report(tmp_path / "out")["configurations"][0]["seconds"]
    moved.rename(tmp_path / "away")
    for _ in range(2):
        assert start(moved, tmp_path / "out", "-m", "benchmark.repeat=1") == 1
        assert report(tmp_path / "out")["configurations"][0]["failed"] == [1]
    (tmp_path / "away").rename(moved)
    assert start(moved, tmp_path / "out", "-m", "benchmark.repeat=1") == 0
    joint = report(tmp_path / "out")
    assert [tile["reused"] for tile in joint["tiles"]] == [True]
    assert joint["configurations"][0]["seconds"] == before


def test_a_run_at_work_keeps_its_report(products: Path, tmp_path: Path) -> None:
    assert start(products, tmp_path, "-m", "benchmark.repeat=1") == 0
    (path,) = (tmp_path / "jobs").glob("*/1/report.json")
    before = path.read_bytes()
    with staging(path.parent):
        assert start(products, tmp_path, "-m", "benchmark.repeat=1") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("more", [("-m", "dry_run=true", "layers.names=[gap]"), ("layers.names=[gap]",)])
def test_nothing_is_left_of_a_plan_or_a_run_outside_a_sweep(
    products: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert start(products, tmp_path / "out", *more) == 1
    assert not list((tmp_path / "out").rglob("report.json"))


def test_a_repeat_that_is_no_number_names_no_folder(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = [f"input_dir={products}", f"output_folder={tmp_path}", *FAST, "backend=null", "-m"]
    assert main([*arguments, "benchmark.repeat='../../x'"]) == 1
    assert "benchmark.repeat=../../x: takes a whole number" in caplog.text
    assert not list(tmp_path.rglob("report.json"))
