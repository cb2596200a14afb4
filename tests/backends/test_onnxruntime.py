from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.torch import TorchBackend
from benexp.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from tests.models.builders import S2

CHUNK = varied_patches(S2, 1, 240, seed=8)[0].astype(np.uint16)
VALID = np.ones((240, 240), bool)
ORIGINS = np.array([(row, col) for row in (0, 30, 60, 90, 120) for col in (0, 30, 60, 90, 120)])


def test_it_agrees_with_torch(small_model: ModelSpec, small_onnx: Path) -> None:
    with TorchBackend(small_model, small_model.path, threads=2) as torch:
        expected = torch.classify(CHUNK, VALID, ORIGINS)
    with OnnxRuntimeBackend(small_model, small_onnx, threads=2) as backend:
        answer = backend.classify(CHUNK, VALID, ORIGINS)
    assert np.abs(answer - expected).max() <= 1e-4
    second, best = np.sort(expected, axis=1)[:, -2:].T
    clear = best - second > 1e-4
    assert clear.mean() > 0.9
    assert np.array_equal(answer.argmax(1)[clear], expected.argmax(1)[clear])


def test_batch_and_threads_change_no_bit(small_model: ModelSpec, small_onnx: Path) -> None:
    answers = []
    for batch_size, threads in ((1, 1), (7, 1), (32, 1), (8, 2), (25, 3)):
        with OnnxRuntimeBackend(small_model, small_onnx, batch_size=batch_size, threads=threads) as backend:
            answers.append(backend.classify(CHUNK, VALID, ORIGINS))
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_a_file_for_other_bands_or_patches_is_refused(small_model: ModelSpec, small_onnx: Path) -> None:
    with pytest.raises(BenexpError, match=r"was exported for bands \['B02'.*, not \['B12'"):
        OnnxRuntimeBackend(replace(small_model, bands=S2[::-1]), small_onnx).open()
    with pytest.raises(BenexpError, match=r"needs one input patches \[n, 12, 120, 120\]"):
        OnnxRuntimeBackend(replace(small_model, bands=("B01", "B09", *S2)), small_onnx).open()
    with pytest.raises(BenexpError, match=r"needs one input patches \[n, 10, 96, 96\]"):
        OnnxRuntimeBackend(replace(small_model, patch_size=96), small_onnx).open()


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_devices_and_providers(small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=1) as backend:
        assert backend.describe()["provider"] == "CPUExecutionProvider"
    # As ONNX Runtime does it: a provider it cannot have is replaced without a word.
    monkeypatch.setattr(OnnxRuntimeBackend, "_PROVIDER", "CUDAExecutionProvider")
    with pytest.raises(BenexpError, match="on CPUExecutionProvider, not on CUDAExecutionProvider as asked"):
        OnnxRuntimeBackend(small_model, small_onnx).open()


def test_a_damaged_file_is_named(small_model: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BenexpError, match=r"broken\.onnx cannot be loaded"):
        OnnxRuntimeBackend(small_model, tmp_path / "broken.onnx").open()
