import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import HASH_KEY
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.answers import onnx_answer
from exporters.cached import cached
from exporters.parity import TOLERANCES
from exporters.quantize import for_ranges, quantize_onnx, quantize_openvino
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from tests.models.builders import S2, model_config
from tests.without import TORCH, run_without

REAL = varied_patches(S2, 32, seed=3)
RECIPE = Recipe("int8", ranges=RangePatches("made up", "made-up patches", lambda: REAL))
FOUND = "made-up patches: 32 found, 24 for ranges, 8 held out to check on"


@pytest.fixture(scope="module")
def demo(cache: Path) -> ModelSpec:
    """The trained model in the package: random weights bear eight bits badly."""
    return resolve(model_config(name="demo", architecture="test_resnet"))


@pytest.fixture(scope="module")
def fp32(demo: ModelSpec) -> Path:
    return cached(demo, "onnx")


@pytest.fixture(scope="module")
def int8(demo: ModelSpec, fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "m.onnx"
    quantize_onnx(demo, fp32, path, RECIPE)
    return path


def largest_difference(path: Path, fp32: Path) -> float:
    patches = varied_patches(S2, 16, seed=9)
    return float(np.abs(onnx_answer(path)(patches) - onnx_answer(fp32)(patches)).max())


def test_an_int8_file_is_small_near_and_says_what_it_is(int8: Path, fp32: Path, demo: ModelSpec) -> None:
    assert sorted(path.name for path in int8.parent.iterdir()) == ["m.onnx", "m.parity.json"]
    assert int8.stat().st_size < fp32.stat().st_size / 2.5
    assert 0 < largest_difference(int8, fp32) < 0.15
    said = {prop.key: json.loads(prop.value) for prop in onnx.load(int8).metadata_props if prop.key != HASH_KEY}
    assert said["benexp.precision"] == "int8"
    assert said["benexp.quantization"] == FOUND
    again = resolve(model_config(weights="onnx", path=int8))
    assert (again.name, again.precision, again.bands) == (demo.name, "int8", demo.bands)


def test_what_eight_bits_would_spoil_stays_fp32(int8: Path) -> None:
    graph = onnx.load(int8).graph
    makers = {output: node for node in graph.node for output in node.output}
    into = {node.op_type: [makers[name].op_type for name in node.input if name in makers] for node in graph.node}
    assert into["Sub"] == []
    assert into["Div"] == ["Sub"]
    assert into["Conv"][:2] == ["DequantizeLinear"] * 2
    assert "DequantizeLinear" not in into["Gemm"]
    assert into["Sigmoid"] == ["Gemm"]


def test_what_the_ranges_were_measured_on_decides_and_the_others_are_reported(int8: Path) -> None:
    report = json.loads(int8.with_suffix(".parity.json").read_text())
    assert report["passed"]
    assert report["quantization"] == FOUND
    assert {kind: about["decides"] for kind, about in report["kinds"].items()} == {
        "real": True,
        "realistic": True,
        "random": True,
        "constant": True,
        "zero": False,
        "saturated": False,
    }
    assert report["kinds"]["real"]["patches"] == 8
    kinds = {kind: about["max_abs_diff"] for kind, about in report["kinds"].items()}
    assert report["max_abs_diff_all"] == max(kinds.values())
    assert report["max_abs_diff"] == max(kinds[kind] for kind in ("real", "realistic", "random", "constant"))


def test_the_same_patches_give_the_same_file_in_silence(
    int8: Path, fp32: Path, demo: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantize_onnx(demo, fp32, tmp_path / "m.onnx", RECIPE)
    assert (tmp_path / "m.onnx").read_bytes() == int8.read_bytes()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_over_the_tolerance_no_file_is_kept(fp32: Path, demo: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"at int8 differs .* on \w+ patches .*export\.tolerance\.int8"):
        quantize_onnx(demo, fp32, tmp_path / "m.onnx", replace(RECIPE, tolerance=1e-6))
    assert [path.name for path in tmp_path.iterdir()] == ["m.worst.npz"]


def test_random_weights_are_told_from_trained_ones(small_model: ModelSpec, small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"its weights are random.*export\.tolerance\.int8=1"):
        quantize_onnx(small_model, small_onnx, tmp_path / "m.onnx", RECIPE)
    assert quantize_onnx(small_model, small_onnx, tmp_path / "m.onnx", replace(RECIPE, tolerance=1))["passed"]


def test_patches_that_are_checked_give_no_ranges(demo: ModelSpec) -> None:
    ranges, held_out = for_ranges(demo, REAL)
    assert np.array_equal(held_out, REAL[::4])
    seen = {patch.tobytes() for patch in ranges}
    assert not seen & {patch.tobytes() for patch in held_out}
    assert {patch.tobytes() for patch in REAL} <= seen | {patch.tobytes() for patch in held_out}


def test_ranges_from_few_patches_are_warned_about(demo: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    for_ranges(demo, REAL)
    assert not caplog.records
    for_ranges(demo, REAL[:31])
    assert "int8 is quantised on 31 patches, and ranges from fewer than 32 are shaky" in caplog.text


def test_one_patch_is_enough_to_begin_with(demo: ModelSpec) -> None:
    ranges, held_out = for_ranges(demo, REAL[:1])
    assert len(held_out) == 1
    assert len(ranges)


SCRIPT = """
import sys
import numpy as np
from benexp.models.resolve import resolve
from exporters.cached import cached
from exporters.ranges import RangePatches
from exporters.recipe import Recipe

spec = resolve({"name": "mine", "weights": "onnx", "path": sys.argv[1]})
ranges = RangePatches("key", "a few", lambda: np.load(sys.argv[2]))
print(cached(spec, "onnx", Recipe("int8", ranges=ranges)))
"""


def test_an_exported_file_is_quantised_where_torch_is_not(fp32: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "real.npy", REAL)
    said = run_without({*TORCH, "safetensors", "nncf"}, SCRIPT, fp32, tmp_path / "real.npy")
    assert largest_difference(Path(said), fp32) < 0.15


def test_without_onnx_it_says_what_to_install(
    fp32: Path, demo: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BenexpError, match=r"needs onnx: pip install 'benexp\[cpu\]'"):
        quantize_onnx(demo, fp32, tmp_path / "m.onnx", RECIPE)


def test_openvino_is_quantised_in_silence_after_the_normalisation(
    fp32: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    made = [quantize_openvino(openvino.Core().read_model(fp32), REAL) for _ in range(2)]
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")

    first = next(node for node in made[0].get_ordered_ops() if node.get_type_name() == "FakeQuantize")
    assert first.input_value(0).get_node().get_type_name() == "Divide"
    patches = varied_patches(S2, 16, seed=9)
    first_answer, second_answer = (
        openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(patches)[0] for model in made
    )
    assert np.array_equal(first_answer, second_answer)
    assert 0 < np.abs(first_answer - onnx_answer(fp32)(patches)).max() < 0.15


def test_without_nncf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(BenexpError, match=r"needs nncf: pip install 'benexp\[openvino\]'"):
        quantize_openvino(None, REAL)


def test_the_configuration_states_the_limits_that_hold() -> None:
    from omegaconf import OmegaConf

    stated = OmegaConf.load(Path(__file__).parents[2] / "conf" / "config.yaml").export.tolerance
    assert OmegaConf.to_container(stated) == TOLERANCES
