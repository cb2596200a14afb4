"""What every backend must hold to, whoever wrote it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benexp.backends.base import Backend
from benexp.backends.null import NullBackend
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.onnxruntime_gpu import OnnxRuntimeCudaBackend
from benexp.backends.openvino import OpenVinoBackend
from benexp.backends.torch import TorchBackend
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import cached
from tests.models.builders import S2

Floats = npt.NDArray[np.float32]
Make = Callable[..., Backend]

SIZE = 200
ORIGINS = np.array([(row, col) for row in (0, 40, 80) for col in (0, 60, 80)])


class ArithmeticBackend(Backend):
    """A user's own: the probability of class c is the mean of band c (from the first again after the last) / 20000."""

    def _infer(self, patches: Floats) -> Floats:
        means = patches.mean((2, 3)) / 20000
        return means[:, np.arange(len(self.spec.classes)) % means.shape[1]].clip(0, 1)


class UnpaddedArithmeticBackend(ArithmeticBackend):
    pads = False


@pytest.fixture(
    params=[
        "torch",
        "torch-bf16",
        "onnxruntime-cpu",
        "onnxruntime-cuda",
        "openvino",
        "null",
        "arithmetic",
        "arithmetic-unpadded",
    ]
)
def make(request: pytest.FixtureRequest, small_model: ModelSpec) -> Make:
    """Makes one backend after the other; takes the arguments of Backend."""

    def make_one(**arguments: Any) -> Backend:
        spec = small_model
        arguments = {"threads": 2, **arguments}
        match request.param:
            case "torch":
                return TorchBackend(spec, spec.path, **arguments)
            case "torch-bf16":
                return TorchBackend(spec, spec.path, precision="bf16", **arguments)
            case "onnxruntime-cpu":
                return OnnxRuntimeBackend(spec, request.getfixturevalue("small_onnx"), **arguments)
            case "onnxruntime-cuda":
                # Where there is no GPU, its way of cutting and batching patches is tried on the CPU.
                pytest.importorskip("onnx")
                arguments["allow_fallback"] = True
                return OnnxRuntimeCudaBackend(spec, request.getfixturevalue("small_onnx"), **arguments)
            case "openvino":
                pytest.importorskip("openvino")
                return OpenVinoBackend(spec, cached(spec, "openvino"), **arguments)
            case "null":
                return NullBackend(spec, **arguments)
            case "arithmetic":
                return ArithmeticBackend(spec, **arguments)
            case _:
                return UnpaddedArithmeticBackend(spec, **arguments)

    return make_one


@pytest.fixture(scope="module")
def chunk() -> npt.NDArray[np.uint16]:
    return varied_patches(S2, 1, SIZE, seed=2)[0].astype(np.uint16)


@pytest.fixture(scope="module")
def valid() -> npt.NDArray[np.bool_]:
    """A wedge of pixels that are nodata."""
    rows, cols = np.mgrid[:SIZE, :SIZE]
    return np.asarray(rows + cols > 100)


def tolerance(backend: Backend) -> float:
    # torch chooses kernels by the place of a number in its array, GPUs by the batch; the others must not.
    return 1e-5 if isinstance(backend, TorchBackend) or backend.device != "cpu" else 0


def test_answers_are_probabilities_in_the_order_of_the_patches(
    make: Make, chunk: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]
) -> None:
    with make(batch_size=4) as backend:
        together = backend.classify(chunk, valid, ORIGINS)
        backwards = backend.classify(chunk, valid, ORIGINS[::-1])
        single = np.concatenate([backend.classify(chunk, valid, ORIGINS[i : i + 1]) for i in range(len(ORIGINS))])
    assert together.shape == (9, 19)
    assert together.dtype == np.float32
    assert together.min() >= 0
    assert together.max() <= 1
    assert np.abs(together - backwards[::-1]).max() <= tolerance(backend)
    assert np.abs(together - single).max() <= tolerance(backend)
    if not isinstance(backend, NullBackend):
        assert len(np.unique(together, axis=0)) == len(ORIGINS)


def test_batch_size_and_padding_are_invisible(
    make: Make, chunk: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]
) -> None:
    answers = []
    for batch_size in (1, 4, 9, 32):
        with make(batch_size=batch_size) as backend:
            answers.append(backend.classify(chunk, valid, ORIGINS))
    limit = 0.05 if backend.precision == "bf16" else tolerance(backend)
    assert all(np.abs(answer - answers[0]).max() <= limit for answer in answers)


def test_invalid_pixels_enter_as_the_band_s_mean(
    make: Make, chunk: npt.NDArray[np.uint16], small_model: ModelSpec
) -> None:
    nothing = np.zeros((120, 120), bool)
    means = np.broadcast_to(np.float32(small_model.means)[:, None, None], (10, 120, 120))
    origin = np.zeros((1, 2), int)
    with make() as backend:
        masked = backend.classify(chunk[:, :120, :120], nothing, origin)
        plain = backend.classify(means, ~nothing, origin)
    assert np.array_equal(masked, plain)


def test_what_lies_under_invalid_pixels_changes_nothing(
    make: Make, chunk: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]
) -> None:
    other = np.where(valid, chunk, 65535).astype(np.uint16)
    with make(batch_size=4) as backend:
        assert np.array_equal(backend.classify(chunk, valid, ORIGINS), backend.classify(other, valid, ORIGINS))


def test_inputs_are_left_alone(make: Make, chunk: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]) -> None:
    before = chunk.copy(), valid.copy()
    with make(batch_size=4) as backend:
        backend.classify(chunk, valid, ORIGINS)
    assert np.array_equal(before[0], chunk)
    assert np.array_equal(before[1], valid)


def test_no_patches_no_answers(make: Make, chunk: npt.NDArray[np.uint16], valid: npt.NDArray[np.bool_]) -> None:
    with make() as backend:
        assert backend.classify(chunk, valid, np.empty((0, 2), int)).shape == (0, 19)


def test_a_backend_opens_once_and_again_after_closing(make: Make, chunk: npt.NDArray[np.uint16]) -> None:
    backend = make()
    every = np.ones(chunk.shape[1:], bool)
    with pytest.raises(RuntimeError, match="is not open"):
        backend.classify(chunk, every, ORIGINS)
    with backend:
        first = backend.classify(chunk, every, ORIGINS)
        with pytest.raises(RuntimeError, match="already open"):
            backend.open()
    with pytest.raises(RuntimeError, match="is not open"):
        backend.classify(chunk, every, ORIGINS)
    with backend:
        assert np.array_equal(backend.classify(chunk, every, ORIGINS), first)


def test_describe_says_what_runs(make: Make) -> None:
    with make(batch_size=4) as backend:
        said = backend.describe()
    assert {"backend", "precision", "device", "threads", "batch_size"} <= set(said)
    assert said["backend"] == type(backend).__name__
    assert said["batch_size"] == 4
    assert said["threads"] == 2


def test_unknown_precision_is_refused(small_model: ModelSpec) -> None:
    for kind in (TorchBackend, OnnxRuntimeBackend, OpenVinoBackend, NullBackend):
        with pytest.raises(BenexpError, match=rf"backend\.precision=fp64: {kind.__name__} takes fp32"):
            kind(small_model, precision="fp64")


def test_arithmetic_by_hand(small_model: ModelSpec) -> None:
    spec = replace(small_model, patch_size=2, bands=S2[:2], means=(2000.0, 4000.0), stds=(1.0, 1.0))
    chunk = np.array([[[0, 2000, 4000], [0, 2000, 4000]], [[10000, 10000, 0], [10000, 10000, 0]]], np.uint16)
    valid = np.ones((2, 3), bool)
    with ArithmeticBackend(spec, batch_size=4) as backend:
        plain = backend.classify(chunk, valid, np.array([[0, 0], [0, 1]]))
        valid[:, 2] = False
        masked = backend.classify(chunk, valid, np.array([[0, 1]]))
    assert plain[:, :3] == pytest.approx(np.array([[0.05, 0.5, 0.05], [0.15, 0.25, 0.15]]))
    # The right half becomes 2000 and 4000.
    assert masked[0, :2] == pytest.approx([0.1, 0.35])


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf")])
def test_what_is_no_probability_stops(value: float, small_model: ModelSpec) -> None:
    class Odd(NullBackend):
        def _infer(self, patches: Floats) -> Floats:
            answer = super()._infer(patches)
            answer[0, 7] = value
            return answer

    with pytest.raises(BenexpError, match=r"model small on Odd at fp32 answered NaN or outside 0 to 1"):
        Odd(small_model).open()


def test_another_number_of_classes_stops(small_model: ModelSpec) -> None:
    class Wide(NullBackend):
        def _classify(self, *_: Any) -> Floats:
            return np.full((1, 43), 0.5, np.float32)

    with pytest.raises(BenexpError, match=r"answered in shape \(1, 43\), not \(32, 19\)"):
        Wide(small_model).open()


def test_shipped_backend_configurations_make_backends(small_model: ModelSpec, small_onnx: Path) -> None:
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    shipped = sorted((Path(__file__).parents[2] / "conf" / "backend").glob("*.yaml"))
    assert {"torch", "onnxruntime-cpu", "openvino", "null"} <= {path.stem for path in shipped}
    for path in shipped:
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        assert list(content)[:5] == ["_target_", "batch_size", "precision", "device", "threads"]
        target = content.pop("_target_")
        made = get_class(target)(small_model, small_onnx, **content)
        assert made.batch_size == content["batch_size"]
