"""The options that benexp passes to ONNX Runtime's GPU providers, read by the official wheels on any CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benexp.models.resolve import DEMO_MODEL, resolve
from benexp.models.synthetic import varied_patches
from exporters.cached import cached
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from tests.backends.fake_providers import OPTIONS
from tests.models.builders import S2

pytestmark = pytest.mark.long

RANGES = RangePatches("key", "8 patches", lambda: varied_patches(S2, 8, seed=3))


@pytest.fixture(scope="module", params=OPTIONS["versions"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The answers that gpu_wheel.py prints beside the wheel of one version."""
    scratch = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(scratch)]
    installed = subprocess.run([*pip, f"onnxruntime-gpu=={request.param}"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"no onnxruntime-gpu {request.param}: {installed.stderr.strip().splitlines()[-1]}")
    config = {"name": "demo", "weights": "folder", "path": DEMO_MODEL, "architecture": "test_resnet", "bands": S2}
    demo = resolve(config)
    models = [cached(demo, "onnx"), cached(demo, "onnx", Recipe("fp16"))]
    models.append(cached(demo, "tensorrt-onnx", Recipe("int8", ranges=RANGES)))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{scratch}{os.pathsep}{root}"}
    script = Path(__file__).with_name("gpu_wheel.py")
    run = subprocess.run([sys.executable, script, *models], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    answers: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    assert answers["version"] == request.param
    return answers


def test_every_option_is_understood(said: Mapping[str, Any]) -> None:
    # Two precisions with CUDA, four with TensorRT, which names CUDA's, too, each at two batch sizes.
    assert len(said["asked"]) == 12
    assert {name: refusal for name, refusal in said["refused"].items() if refusal} == {}
    # The parser at work: it says no to what it does not know.
    flag, name = said["control"]
    assert "should be 'True' or 'False'" in flag
    assert "no_such_option" in name


def test_the_stand_ins_know_what_the_wheel_knows(said: Mapping[str, Any]) -> None:
    assert said["kinds"] == OPTIONS["TensorrtExecutionProvider"]
    assert said["cuda_words"] == sorted(OPTIONS["CUDAExecutionProvider"])


def test_no_convolution_of_an_int8_file_leaves_tensorrt(said: Mapping[str, Any]) -> None:
    basic = said["optimised"]["int8 ORT_ENABLE_BASIC"]
    assert basic["int32"] == 0
    assert basic["into_convolutions"] == ["DequantizeLinear"]
    assert basic["counts"]["Conv"] == 15
    # Weights are of 8 bits by then; activations, among them four skip connections, are quantised in the graph.
    assert basic["counts"]["DequantizeLinear"] >= 2 * basic["counts"]["Conv"]
    assert basic["counts"]["QuantizeLinear"] >= 4
    assert said["optimised"]["int8 ORT_ENABLE_ALL"]["int32"] == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_files_have_no_quantisation(precision: str, said: Mapping[str, Any]) -> None:
    counts = said["optimised"][f"{precision} ORT_ENABLE_BASIC"]["counts"]
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(counts)
    assert counts["Conv"] == 15
