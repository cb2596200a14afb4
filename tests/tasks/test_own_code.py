"""A user's own backend and layers, in a run."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from tests.tasks.runs import FAST


class Brightness(Backend):
    """A user's own backend: the class is the mean of B02, in 19 steps; one key of its own."""

    def __init__(self, *args: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = gain

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        bright = patches[:, 0].mean((1, 2))
        steps = np.clip(self.gain * bright / 5000 * 19, 0, 18.99).astype(int)
        # Hardly less than 1, and never quite the same twice.
        return np.eye(19, dtype=np.float32)[steps] * (1 - 1e-8 * bright[:, None]).astype(np.float32)


def water(probabilities: np.ndarray, class_names: Any) -> np.ndarray:
    """A user's own layer."""
    return probabilities[[list(class_names).index(name) for name in ("Inland waters", "Marine waters")]].sum(0)


def greedy(probabilities: np.ndarray, class_names: Any) -> np.ndarray:
    """A user's layer that spoils its input."""
    probabilities /= probabilities.sum(0)
    return probabilities[0]


def test_a_users_own_backend_and_layer(safe: Path, tmp_path: Path) -> None:
    record = classify(
        safe,
        tmp_path,
        *FAST,
        "backend._target_=tests.tasks.test_own_code.Brightness",
        "backend.gain=1.0",
        "layers.extra={water:{function:tests.tasks.test_own_code.water,dtype:float32,description:Any water}}",
    )
    tile = record["tile"]
    with rasterio.open(tmp_path / tile / f"{tile}_class.tif") as raster:
        # DN are uniform from 1 to 4999, so the mean of a whole patch is in the middle step.
        classes = raster.read(1)
    assert np.bincount(classes.ravel())[:255].argmax() == 9
    with rasterio.open(tmp_path / tile / f"{tile}_water.tif") as raster:
        # A patch half without data is darker: class 8, which is inland waters.
        assert np.array_equal(raster.read(1) > 0.5, classes == 8)
        assert raster.tags()["DESCRIPTION"] == "Any water"
    assert record["backend"]["backend"] == "Brightness"


def test_a_user_layer_cannot_change_what_the_next_one_sees(safe: Path, tmp_path: Path) -> None:
    extra = "layers.extra={greedy:{function:tests.tasks.test_own_code.greedy,dtype:float32}}"
    with pytest.raises(BenexpError, match=r"layers\.extra\.greedy: .*read-only"):
        classify(safe, tmp_path, *FAST, "backend=null", extra)


def test_the_readmes_own_layer_and_backend_run(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for module in ("my_layers", "my_backend"):
        code = re.search(rf"```python\n# {module}\.py\n(.*?)```", readme, re.DOTALL)[1]
        (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("my_layers", "my_backend"):
        # Another test may have imported one of its own by this name.
        monkeypatch.delitem(sys.modules, module, raising=False)
    layer = re.search(r"'(layers\.extra=.*?)'", readme)[1]
    backend = re.search(r"(backend\._target_=my_backend\S+) (backend\.level=\S+)", readme)
    record = classify(safe, tmp_path / "out", "model=demo", layer, backend[1], backend[2])
    with rasterio.open(tmp_path / "out" / record["tile"] / f"{record['tile']}_water.tif") as raster:
        assert 0.07 < np.nanmax(raster.read(1)) < 0.08, "0.3 of a brightness of 0.25"
