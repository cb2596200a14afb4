"""What is told first: a library that is missing, before anything is fetched or made for the backend that lacks it."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import exporters.cached
from benexp import BenexpError, classify
from benexp.backends.base import FallbackError
from benexp.backends.null import NullBackend
from benexp.models.spec import ModelSpec
from benexp.runs.backend_choice import choose_backend
from benexp.runs.backend_trial import _outcome
from tests.products.builders import write_folder

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(exporters.cached, "cached", refuse)


def backend(module: str, name: str, **more: Any) -> dict[str, Any]:
    return {"_target_": f"benexp.backends.{module}.{name}", **more}


@pytest.mark.skipif("TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="there is one")
@pytest.mark.usefixtures("nothing_is_made")
def test_no_file_is_made_for_a_provider_that_is_missing(small_model: ModelSpec) -> None:
    asked = backend("onnxruntime_gpu", "OnnxRuntimeTensorrtBackend", precision="int8")
    with pytest.raises(
        FallbackError, match=r"has no TensorrtExecutionProvider: .*pip install 'benexp\[gpu,tensorrt\]'"
    ):
        choose_backend(asked).make(small_model)
    with pytest.raises(AssertionError, match="a file was made"):
        choose_backend({**asked, "allow_fallback": True}).make(small_model)


@pytest.mark.parametrize(
    ("module", "name", "library", "message"),
    [
        ("onnxruntime", "OnnxRuntimeBackend", "onnxruntime", r"needs onnxruntime: pip install 'benexp\[cpu\]'"),
        ("openvino", "OpenVinoBackend", "openvino", r"needs openvino: pip install 'benexp\[openvino\]'"),
        ("tensorrt", "TensorrtBackend", "tensorrt", r"TensorRT cannot be loaded .*pip install 'benexp\[tensorrt\]'"),
        ("torch", "TorchBackend", "torch", r"needs torch: pip install 'benexp\[torch\]'"),
    ],
)
@pytest.mark.usefixtures("nothing_is_made")
def test_no_file_is_made_for_a_library_that_is_missing(
    module: str, name: str, library: str, message: str, small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BenexpError, match=message):
        choose_backend(backend(module, name)).make(small_model)


class Unchecked(NullBackend):
    """A user's own that lets its import fail."""

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        import no_such_engine  # noqa: F401


def test_a_users_class_that_lets_its_import_fail_is_worded(small_model: ModelSpec) -> None:
    asked = {"_target_": f"{__name__}.Unchecked"}
    message = r"^Unchecked cannot run here: ModuleNotFoundError: No module named 'no_such_engine'$"
    with pytest.raises(BenexpError, match=message):
        choose_backend(asked).make(small_model)
    with pytest.raises(BenexpError, match=message):
        Unchecked(small_model).open()
    assert _outcome(asked, small_model, {})[0] == "not installed"


@pytest.mark.parametrize(("device", "batch"), [("cpu", 32), ("cuda", 256), ("cuda:1", 256)])
def test_a_gpu_gets_larger_batches_by_default(device: str, batch: int) -> None:
    asked = {"_target_": "benexp.backends.torch.TorchBackend", "device": device, "batch_size": None}
    assert choose_backend(asked).settings["batch_size"] == batch
    assert choose_backend({**asked, "batch_size": 8}).settings["batch_size"] == 8


def test_a_missing_library_is_told_before_a_missing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise BenexpError("the Hub cannot be reached")

    monkeypatch.setattr("benexp.models.hub.fetch", unreachable)
    product = write_folder(tmp_path / "product", size=(130, 130))
    asked = (product, tmp_path / "out", "model=resnet50-s2-v0.2.0", "offset=none", "backend=openvino")
    if find_spec("openvino"):
        with pytest.raises(BenexpError, match="the Hub cannot be reached"):
            classify(*asked)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BenexpError, match="backend=openvino needs openvino"):
        classify(*asked)
