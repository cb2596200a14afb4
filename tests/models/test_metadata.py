from pathlib import Path

import onnx
import pytest

from benexp.errors import BenexpError
from benexp.models.published import sha256
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.models.builders import S2, model_config


def test_a_file_brings_its_own_specification(small_model: ModelSpec, small_onnx: Path) -> None:
    spec = resolve(model_config(name="onnx", weights="onnx", path=small_onnx, architecture=None, bands=[]))
    assert spec.name == "small"
    assert spec.bands == S2
    assert (spec.means, spec.stds) == (small_model.means, small_model.stds)
    assert spec.classes == small_model.classes
    assert spec.path == small_onnx
    assert spec.weights_hash == sha256(small_onnx)
    assert spec.weights == "onnx"
    assert not spec.trained


def test_patches_of_another_size_are_refused(small_onnx: Path) -> None:
    with pytest.raises(BenexpError, match=r"takes patches of 120 px: set chunking\.patch_size=120"):
        resolve(model_config(weights="onnx", path=small_onnx), patch_size=96)


def test_a_file_from_elsewhere_is_refused(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(BenexpError, match=r"foreign\.onnx does not say its name"):
        resolve(model_config(weights="onnx", path=tmp_path / "foreign.onnx"))


def test_no_onnx_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BenexpError, match=r"text\.onnx cannot be read as ONNX") as raised:
        resolve(model_config(weights="onnx", path=tmp_path / "text.onnx"))
    assert "\n" not in str(raised.value)
