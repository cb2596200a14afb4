"""Exports through the command line and from Python: what lies there afterwards, and what is refused."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from benexp import BenexpError
from benexp.cli.app import main
from benexp.cli.dispatch import run
from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.models.embedded_hash import is_sound
from benexp.models.resolve import resolve
from benexp.tasks import export as task
from exporters import onnx, openvino, tensorrt
from tests.products.builders import write_folder


def export(folder: Path, *overrides: str, said: list[str] | None = None) -> dict[str, Any]:
    """The record of `benexp task=export model=demo output_folder=FOLDER OVERRIDES`."""
    words = [quote(word) for word in ("task=export", "model=demo", f"output_folder={folder}", *overrides)]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", words)
    return run(composed, words, (said if said is not None else []).append)[0]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return export(tmp_path_factory.mktemp("exports"), said=said), said


@pytest.fixture
def exported(done: tuple[dict[str, Any], list[str]]) -> list[str]:
    """What makes the exported file the model."""
    return ["model=onnx", f"model.path={done[0]['path']}"]


def test_file_report_and_item_lie_beside_each_other(done: tuple[dict[str, Any], list[str]]) -> None:
    record, _ = done
    path = Path(record["path"])
    names = ["demo-fp32.onnx", "demo-fp32.parity.json", "demo-fp32.stac.json"]
    assert sorted(file.name for file in path.parent.iterdir()) == names
    assert sorted(Path(file).name for file in record["files"]) == names
    parity = json.loads(path.with_suffix(".parity.json").read_text())
    assert parity["passed"] is True
    assert parity["max_abs_diff"] == record["parity"]["max_abs_diff"] <= 1e-4
    assert parity["made_by"]["model"]["name"] == "demo"
    assert "task=export" in parity["made_by"]["overrides"]
    assert parity["made_by"]["libraries"]["torch"]
    item = json.loads(path.with_suffix(".stac.json").read_text())
    assert item["properties"]["benexp:parity"]["passed"] is True
    assert item["properties"]["license"] == "MIT"


def test_the_end_names_files_differences_and_the_next_command(done: tuple[dict[str, Any], list[str]]) -> None:
    record, said = done
    lines = "\n".join(said).splitlines()
    assert lines[0] == f"{record['path']}  {Path(record['path']).stat().st_size / 1e6:.1f} MB"
    rows = {line.split()[1]: line.split() for line in lines[4:-1]}
    assert set(rows) == {"realistic", "random", "constant", "zero", "saturated", "deciding"}
    assert float(rows["deciding"][2]) == pytest.approx(record["parity"]["max_abs_diff"], rel=0.1)
    assert rows["deciding"][-1] == "yes"
    assert f"model=onnx model.path={record['path']} backend=onnxruntime-cpu" in lines[-1]


def test_the_file_is_a_model(done: tuple[dict[str, Any], list[str]]) -> None:
    spec = resolve({"weights": "onnx", "path": done[0]["path"]})
    assert spec.name == "demo"
    assert spec.precision == "fp32"


def test_over_tolerance_leaves_the_file_of_before_and_the_worst_patch(
    done: tuple[dict[str, Any], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(done[0]["path"])
    before = path.read_bytes()
    arguments = ["task=export", "model=demo", f"output_folder={path.parent}", "export.tolerance.fp32=1e-12"]
    assert main(arguments) == 1
    assert f"the patch that differs most is in {path.with_suffix('.worst.npz')}" in caplog.text
    assert path.read_bytes() == before
    assert f"the older {path} is still there, unchanged" in caplog.text
    path.with_suffix(".worst.npz").unlink()


def test_int8_is_calibrated_and_checked_on_the_products_named(exported: list[str], tmp_path: Path) -> None:
    product = write_folder(tmp_path / "product", size=(240, 240))
    asked = (f"tile_folder={product}", "offset=none", "quantization.patches=4", "export.precision=int8")
    said: list[str] = []
    record = export(tmp_path / "out", *exported, *asked, "export.tolerance.int8=1", said=said)
    assert Path(record["path"]).name == "demo-int8.onnx"
    assert record["parity"]["kinds"]["real"]["patches"] == 1
    assert record["parity"]["quantization"].endswith(": 4 found, 3 for ranges, 1 held out to check on")
    table = {line.split()[1]: line for line in said[-1].splitlines() if line[:4].strip().isdigit()}
    told = {kind for kind, line in table.items() if line.endswith("for information")}
    assert told == {"zero", "saturated"}
    item = json.loads(Path(record["path"]).with_suffix(".stac.json").read_text())["properties"]["benexp:parity"]
    assert item["max_abs_diff"] <= item["max_abs_diff_all"] == record["parity"]["max_abs_diff_all"]
    assert "backend=onnxruntime-cpu backend.precision=int8" in said[-1]
    with pytest.raises(BenexpError, match="differs from demo-fp32.onnx"):
        export(tmp_path / "none", *exported, *asked, "export.tolerance.int8=1e-9")
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["demo-int8.worst.npz"]


def test_an_int8_file_is_not_quantised_again(exported: list[str], tmp_path: Path) -> None:
    product = write_folder(tmp_path / "product", size=(240, 240))
    asked = (f"tile_folder={product}", "offset=none", "quantization.patches=4", "export.precision=int8")
    made = export(tmp_path / "out", *exported, *asked, "export.tolerance.int8=1")
    assert made["parity"]["reference"].endswith(".onnx (fp32)")
    again = ("model=onnx", f"model.path={made['path']}", *asked)
    with pytest.raises(BenexpError, match="demo-int8.onnx is int8 already"):
        export(tmp_path / "again", *again)
    with pytest.raises(BenexpError, match="in a form that TensorRT does not take"):
        export(tmp_path / "again", *again, "export.format=tensorrt", "export.batch=8")


def test_openvino_files(exported: list[str], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    said: list[str] = []
    record = export(tmp_path, *exported, "export.format=openvino", said=said)
    stem = "demo-fp32-openvino"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{stem}{suffix}" for suffix in (".xml", ".bin", ".parity.json", ".stac.json")
    }
    assert f"model.path={record['path']} backend=openvino" in said[-1]
    assets = json.loads((tmp_path / f"{stem}.stac.json").read_text())["assets"]
    assert set(assets) == {"model", "weights", "parity"}


def test_files_for_one_batch_size(tmp_path: Path) -> None:
    said: list[str] = []
    record = export(tmp_path, "export.batch=4", said=said)
    assert said[-1].endswith("backend.precision=fp32 backend.batch_size=4 tile_folder=...")
    model = ("model=onnx", f"model.path={record['path']}")
    for asked in (["export.format=openvino"], ["export.format=tensorrt", "export.batch=4"]):
        with pytest.raises(BenexpError, match=r"was exported for batches of 4: export it for any batch"):
            export(tmp_path / "more", *model, *asked)


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")
@pytest.mark.parametrize("precision", task.PRECISIONS["tensorrt"])
def test_without_tensorrt_every_precision_comes_as_far_as_the_command(precision: str, tmp_path: Path) -> None:
    product = write_folder(tmp_path / "product", size=(240, 240))
    # The four patches of noise that the product has give ranges that are too narrow for constant ones.
    wider = "export.tolerance.int8=0.4"
    asked = [f"tile_folder={product}", "offset=none", wider] if precision == "int8" else []
    said: list[str] = []
    with pytest.raises(BenexpError, match=r"no engine was built: .*pip install 'benexp\[tensorrt\]'"):
        export(
            tmp_path,
            *("export.format=tensorrt", "export.batch=8", f"export.precision={precision}"),
            *asked,
            said=said,
        )
    source = tmp_path / f"demo-{precision}-batch8-tensorrt.onnx"
    assert is_sound(source)
    assert f"trtexec --onnx={source}" in said[0]
    assert "--optShapes=patches:8x10x120x120" in said[0]


def test_without_tensorrt_there_is_what_to_build_an_engine_of_and_how(exported: list[str], tmp_path: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("TensorRT is installed")
    said: list[str] = []
    with pytest.raises(BenexpError, match=r"no engine was built: .*pip install 'benexp\[tensorrt\]'"):
        export(tmp_path, *exported, "export.format=tensorrt", "export.batch=8", said=said)
    assert f"trtexec --onnx={exported[1].partition('=')[2]}" in said[0]
    assert f"--saveEngine={tmp_path / 'demo-fp32-batch8-tensorrt.engine'}" in said[0]
    assert not list(tmp_path.glob("*.engine"))


def test_dry_run_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "resolve", no_work)
    said: list[str] = []
    folder = tmp_path / "later"
    export(folder, "export.precision=fp16", "export.batch=4", "dry_run=true", said=said)
    assert f"would make {folder / 'demo-fp16-batch4.onnx'} from demo" in said[0]
    assert "may differ by 0.01" in said[0]
    assert not folder.exists()


def no_work(*_: Any, **__: Any) -> None:
    raise AssertionError("work was begun")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["export.format=openvino", "export.precision=bf16"], "export.format=openvino takes fp32, int8; "),
        (["export.precision=bf16"], "export.format=onnx takes fp32, fp16, int8; nothing runs bf16 convolutions"),
        (["export.format=openvino", "export.batch=8"], "export.batch=8: openvino at fp32 takes any batch"),
        (["export.format=tensorrt"], "export.batch is not set: a TensorRT engine"),
        (["export.precision=int8"], "int8 needs patches to calibrate on: name a product"),
        (["export.precision=int8", "export.batch=8", "input_dir=x"], "export.batch=8: onnx at int8 takes any batch"),
        (["model=onnx", "model.path=a.onnx"], "a.onnx is exported already: ONNX at fp32 is made of checkpoints"),
        (["tile_folder=a", "input_dir=b"], "tile_folder and input_dir exclude each other"),
    ],
)
def test_what_cannot_be_made_is_refused_before_work(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "resolve", no_work)
    with pytest.raises(BenexpError) as caught:
        export(tmp_path / "out", *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_precisions_are_those_of_the_exporters() -> None:
    assert set(task.PRECISIONS["onnx"]) == {*onnx.PRECISIONS, "int8"}
    assert task.PRECISIONS["openvino"] == openvino.PRECISIONS
    assert task.PRECISIONS["tensorrt"] == tensorrt.PRECISIONS
