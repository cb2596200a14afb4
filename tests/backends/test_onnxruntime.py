import logging
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import benexp.core.installed
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.torch import TorchBackend
from benexp.core.errors import BenexpError
from benexp.core.installed import check_one_runtime, installed_runtimes
from benexp.models.metadata import to_metadata
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


def test_it_says_what_it_runs_on(small_model: ModelSpec, small_onnx: Path) -> None:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=1) as backend:
        assert backend.describe()["provider"] == "CPUExecutionProvider"
        assert backend.describe()["fallback"] is None


def test_a_damaged_file_is_named(small_model: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BenexpError, match=r"broken\.onnx cannot be loaded"):
        OnnxRuntimeBackend(small_model, tmp_path / "broken.onnx").open()


@pytest.fixture(scope="module")
def int8(small_model: ModelSpec, small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_onnx`, quantised the common way, unchecked: a random network is too sensitive to pass."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx = pytest.importorskip("onnx")

    class Patches(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(varied_patches(S2, 8, seed=1)[:, None])

        def get_next(self) -> dict[str, np.ndarray] | None:
            patch = next(self.left, None)
            return None if patch is None else {"patches": patch}

    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    # Weights of 7 bits, so that sums do not overflow on CPUs without VNNI.
    quantization.quantize_static(small_onnx, path, Patches(), per_channel=True, reduce_range=True)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, to_metadata(small_model, "int8"))
    onnx.save(model, path)
    return path


def test_no_batch_or_place_changes_a_bit_at_int8(small_model: ModelSpec, small_onnx: Path, int8: Path) -> None:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=2) as backend:
        exact = backend.classify(CHUNK, VALID, ORIGINS)
    answers = []
    for batch_size, threads in ((1, 1), (7, 1), (32, 2)):
        made = OnnxRuntimeBackend(small_model, int8, precision="int8", batch_size=batch_size, threads=threads)
        with made as backend:
            answers += [backend.classify(CHUNK, VALID, ORIGINS), backend.classify(CHUNK, VALID, ORIGINS[::-1])[::-1]]
    assert not np.array_equal(answers[0], exact)
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_a_file_of_another_precision_is_refused(small_model: ModelSpec, small_onnx: Path, int8: Path) -> None:
    with pytest.raises(BenexpError, match=r"holds fp32, which .*precision=int8 runs: set backend\.precision=fp32"):
        OnnxRuntimeBackend(small_model, small_onnx, precision="int8").open()
    with pytest.raises(BenexpError, match=r"holds int8, which .*precision=fp32 runs: set backend\.precision=int8"):
        OnnxRuntimeBackend(small_model, int8).open()


@pytest.fixture(scope="module")
def of_four(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_onnx`, as if it had been exported for batches of 4."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(small_onnx)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    path = tmp_path_factory.mktemp("fixed") / "of_four.onnx"
    onnx.save(model, path)
    return path


def test_a_fixed_batch_is_filled_up(small_model: ModelSpec, small_onnx: Path, of_four: Path) -> None:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=2) as backend:
        expected = backend.classify(CHUNK, VALID, ORIGINS)
    with OnnxRuntimeBackend(small_model, of_four, batch_size=4, threads=2) as backend:
        assert np.array_equal(backend.classify(CHUNK, VALID, ORIGINS), expected)
        assert np.array_equal(backend.classify(CHUNK, VALID, ORIGINS[:3]), expected[:3])


def test_auto_takes_the_batch_that_the_file_was_exported_for(
    small_model: ModelSpec, of_four: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spec = replace(small_model, weights="onnx", path=of_four, batch=4)
    with OnnxRuntimeBackend(spec, of_four, batch_size="auto", threads=2) as backend:
        assert backend.describe()["batch_size"] == 4
        assert len(backend.classify(CHUNK, VALID, ORIGINS)) == len(ORIGINS)
    assert f"backend.batch_size=auto is 4, which {of_four} was exported for" in caplog.text


@pytest.mark.parametrize("batch_size", [1, 32])
def test_another_batch_than_the_fixed_one_is_refused(batch_size: int, small_model: ModelSpec, of_four: Path) -> None:
    with pytest.raises(BenexpError, match=r"of_four\.onnx was exported for batches of 4 .*: set backend\.batch_size=4"):
        OnnxRuntimeBackend(small_model, of_four, batch_size=batch_size).open()


@pytest.mark.parametrize(
    "message",
    [
        # As onnxruntime 1.31.1 raises it on the CPU, and as its issues quote it on GPUs.
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Sub node. Name:'node_sub' Status "
        "Message: bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 1728000000",
        "Available memory of 12 is smaller than requested bytes of 99",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    ],
)
def test_out_of_memory_is_known_by_its_words(message: str, small_model: ModelSpec) -> None:
    assert OnnxRuntimeBackend(small_model)._is_out_of_memory(RuntimeError(message))
    assert not OnnxRuntimeBackend(small_model)._is_out_of_memory(RuntimeError("Invalid rank for input: patches"))


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def version(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(benexp.core.installed.metadata, "version", version)


def test_two_onnx_runtimes_are_refused_before_either_is_used(
    small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-gpu", "onnxruntime-extensions")
    assert installed_runtimes() == ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        BenexpError,
        match=r"onnxruntime and onnxruntime-gpu are installed together, .*: "
        r"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'benexp\[gpu\]'",
    ):
        OnnxRuntimeBackend(small_model, small_onnx).open()
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-openvino")
    with pytest.raises(BenexpError, match=r"pip install 'benexp\[cpu\]'"):
        check_one_runtime()


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_one_onnx_runtime_is_fine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, name)
    check_one_runtime()
    assert installed_runtimes() == [name]


def test_no_onnx_runtime_is_named(small_model: ModelSpec, small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BenexpError, match=r"OnnxRuntimeBackend needs onnxruntime: pip install 'benexp\[cpu\]'"):
        OnnxRuntimeBackend(small_model, small_onnx).open()
