import sys
from dataclasses import replace
from pathlib import Path

import pytest

import exporters.cached
import exporters.onnx
from benexp.errors import BenexpError
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from exporters.cached import cached
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
