import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import exporters.cached
import exporters.onnx
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import is_sound
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from exporters.cached import Kind, announcement, cached
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from tests.models.builders import S2, model_config


def test_the_cache_answers_without_torch(
    small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cached(small_model, "onnx") == small_onnx
    # Its versions have changed, and it cannot be asked for another export: the old one will do.
    monkeypatch.setattr(exporters.cached, "_version", lambda package: None)
    assert cached(small_model, "onnx") == small_onnx


@pytest.mark.usefixtures("small_onnx")
@pytest.mark.parametrize(
    "changes",
    [
        {"weights_hash": "0" * 64},
        {"patch_size": 128},
        {"bands": S2[::-1]},
        {"means": (0.0,) * 10},
        {"stds": (1.0,) * 10},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_cached_file_serves_another_model(
    changes: dict[str, object], small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BenexpError, match=r"pip install 'benexp\[torch\]'"):
        cached(replace(small_model, **changes), "onnx")  # type: ignore[arg-type]


def test_no_cached_file_serves_another_recipe(small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters.cached, "make", lambda *_: None)
    on_a, on_b = (RangePatches(key, "made up", lambda: np.zeros((1, 10, 120, 120), np.float32)) for key in "ab")
    recipes = [
        Recipe(tolerance=2e-4),
        Recipe(tolerance=3e-4),
        Recipe("fp16"),
        Recipe(batch=4),
        Recipe(batch=8),
        Recipe("int8", ranges=on_a),
        Recipe("int8", ranges=on_b),
        Recipe("int8", tolerance=0.1, ranges=on_b),
    ]
    paths = [cached(small_model, "onnx", recipe) for recipe in recipes]
    assert len(set(paths)) == len(recipes)
    # What fp32 is checked on besides makes no other file of it, and the usual tolerance may be named.
    same = [Recipe(), Recipe(tolerance=1e-4), Recipe(ranges=on_a)]
    assert len({cached(small_model, "onnx", recipe) for recipe in same}) == 1


def test_another_version_of_benexp_exports_again(small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(exporters.onnx, "export_onnx", lambda spec, path, **_: made.append(path))
    monkeypatch.setattr(exporters.cached, "__version__", "99")
    path = cached(small_model, "onnx")
    assert made == [path]


def test_a_new_torch_exports_again(small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(exporters.onnx, "export_onnx", lambda spec, path, **_: made.append(path))
    monkeypatch.setattr(exporters.cached, "_version", lambda package: "99")
    assert cached(small_model, "onnx") == made[0] != small_onnx


def test_names_cannot_leave_the_cache(small_model: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters.onnx, "export_onnx", lambda spec, path, **_: None)
    path = cached(replace(small_model, name="../../etc/x", weights_hash="1" * 64), "onnx")
    assert path.parent == cache / "onnx"


def test_an_exported_file_is_its_own_cache(small_onnx: Path) -> None:
    assert cached(resolve(model_config(weights="onnx", path=small_onnx)), "onnx") == small_onnx


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:5000] + b"x" * 400 + content[5400:]])
def test_a_damaged_file_is_made_anew(
    damage: Callable[[bytes], bytes], small_model: ModelSpec, small_onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = small_onnx.read_bytes()
    small_onnx.write_bytes(damage(before))
    assert cached(small_model, "onnx") == small_onnx
    assert is_sound(small_onnx)
    assert len(small_onnx.read_bytes()) == len(before)
    assert f"{small_onnx} is damaged: making it anew" in caplog.text


def test_damaged_weights_of_openvino_are_made_anew(small_model: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    path = cached(small_model, "openvino")
    weights = path.with_suffix(".bin")
    before = weights.read_bytes()
    weights.write_bytes(before[:5000] + b"x" * 400 + before[5400:])
    assert cached(small_model, "openvino") == path
    assert weights.read_bytes() == before
    assert "is damaged: making it anew" in caplog.text


def test_a_damaged_file_is_not_taken_in_place_of_another(
    small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    before = small_onnx.read_bytes()
    small_onnx.write_bytes(before[:-1] + b"x")
    try:
        with pytest.raises(BenexpError, match="was not exported to ONNX at fp32 yet"):
            cached(small_model, "onnx")
    finally:
        small_onnx.write_bytes(before)


def test_what_a_killed_export_left_is_swept(
    small_model: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters.onnx, "export_onnx", lambda spec, path, **_: None)
    old, new = cache / "onnx" / ".export-old", cache / "onnx" / ".export-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half.onnx").touch()
    os.utime(old, (time.time() - 2 * 24 * 60 * 60,) * 2)
    cached(replace(small_model, weights_hash="2" * 64), "onnx")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_is_told_before_work(
    small_model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters.cached, "make", lambda *_: pytest.fail("work was begun"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENEXP_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BenexpError, match=r"file/onnx: cannot be written: .*; set BENEXP_CACHE_DIR"):
        cached(small_model, "onnx")


def test_half_precision_files_are_for_gpus(small_model: ModelSpec, small_onnx: Path) -> None:
    spec = replace(small_model, weights="onnx", path=small_onnx, precision="fp16")
    for kind in ("onnx", "openvino"):
        with pytest.raises(BenexpError, match="holds fp16: set backend=onnxruntime-cuda backend.precision=fp16"):
            cached(spec, kind)  # type: ignore[arg-type]


def test_nothing_is_made_of_a_file_for_one_batch_size(
    small_model: ModelSpec, small_onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(small_model, weights="onnx", path=small_onnx, batch=4, weights_hash="3" * 64)
    caplog.set_level(logging.INFO)
    with pytest.raises(BenexpError, match=r"was exported for batches of 4: export it for any batch"):
        cached(spec, "openvino")
    assert not caplog.messages
    assert cached(spec, "onnx") == small_onnx


@pytest.mark.parametrize(
    ("kind", "recipe", "words"),
    [
        ("onnx", Recipe(), "to ONNX at fp32 and checking it against the model: about 20 s on two free cores, once"),
        (
            "openvino",
            Recipe(),
            "to OpenVINO at fp32 and checking it against the model: about 10 s on two free cores, once",
        ),
        (
            "openvino",
            Recipe("int8", ranges=RangePatches("key", "up to 256 patches of a", lambda: np.zeros(0, np.float32))),
            "to OpenVINO at int8, measuring its ranges on up to 256 patches of a and checking it against the model: "
            "about 50 s on two free cores, once",
        ),
    ],
)
def test_an_export_is_announced_with_its_time(
    kind: Kind, recipe: Recipe, words: str, small_model: ModelSpec, tmp_path: Path
) -> None:
    """For weights as large as those of a ResNet-50."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(95_000_000)
    spec = replace(small_model, name="m", path=tmp_path)
    assert announcement(spec, kind, recipe) == f"exporting m {words}"
