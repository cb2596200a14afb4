"""Every published architecture through every exporter that a CPU can check: minutes, and gigabytes of memory."""

import json
from pathlib import Path

import numpy as np
import pytest

from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import Kind, make
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from tests.models.builders import S2, model_config

CONF = Path(__file__).parents[2] / "conf" / "model"
ARCHITECTURES = sorted({path.stem.partition("-s2-")[0] for path in CONF.glob("*-s2-*.yaml")})
RANGES = RangePatches("made up", "made-up patches", lambda: varied_patches(S2, 32, seed=3))
ASKED: list[tuple[Kind, str]] = [
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=ARCHITECTURES)
def lively(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Random weights in the published format that answer as differently as trained ones do."""
    return resolve(model_config(name=request.param, weights="random", architecture=request.param))


@pytest.mark.parametrize(("kind", "precision"), ASKED)
def test_an_architecture_keeps_its_answers(
    lively: ModelSpec, kind: Kind, precision: str, cache: Path, tmp_path: Path
) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino")
    # Rounding shakes random weights far more than trained ones: below fp32 no more can be asked than files that answer.
    recipe = Recipe(precision, tolerance=None if precision == "fp32" else 1, ranges=RANGES)
    report = make(lively, kind, tmp_path / ("m.xml" if kind == "openvino" else "m.onnx"), recipe)
    assert report["passed"]
    figures = {key: report[key] for key in ("max_abs_diff", "mean_abs_diff", "flips_per_million")}
    # pytest -rP shows it.
    print(lively.name, kind, precision, json.dumps(figures))
    assert np.isfinite(report["max_abs_diff_all"])
