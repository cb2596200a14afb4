import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benexp.backends.openvino import _COMPUTES, OpenVinoBackend
from benexp.backends.torch import TorchBackend
from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import cached
from tests.models.builders import S2

openvino = pytest.importorskip("openvino")

CHUNK = varied_patches(S2, 1, 240, seed=8)[0].astype(np.uint16)
VALID = np.ones((240, 240), bool)
ORIGINS = np.array([(row, col) for row in (0, 30, 60, 90, 120) for col in (0, 30, 60, 90, 120)])
CAPABILITIES = "OPTIMIZATION_CAPABILITIES"


@pytest.fixture(scope="module")
def model(small_model: ModelSpec) -> Path:
    return cached(small_model, "openvino")


def test_it_agrees_with_torch(small_model: ModelSpec, model: Path) -> None:
    with TorchBackend(small_model, small_model.path, threads=2) as torch:
        expected = torch.classify(CHUNK, VALID, ORIGINS)
    with OpenVinoBackend(small_model, model, threads=2) as backend:
        answer = backend.classify(CHUNK, VALID, ORIGINS)
    assert np.abs(answer - expected).max() <= 1e-4


@pytest.mark.parametrize("batch_size", [1, 4, 25, 32])
def test_modes_threads_and_batches_give_the_same(batch_size: int, small_model: ModelSpec, model: Path) -> None:
    with OpenVinoBackend(small_model, model, threads=1, mode="latency") as backend:
        expected = backend.classify(CHUNK, VALID, ORIGINS)
    for mode, threads in (("latency", 2), ("throughput", 1), ("throughput", 3)):
        arguments: dict[str, Any] = {"mode": mode, "threads": threads, "batch_size": batch_size}
        with OpenVinoBackend(small_model, model, **arguments) as backend:
            # Twice: what requests held before must not show.
            backend.classify(CHUNK[:, ::-1], VALID, ORIGINS[::-1])
            answer = backend.classify(CHUNK, VALID, ORIGINS)
        # The same to the bit with AVX2; nobody promises it for other kernels.
        assert np.abs(answer - expected).max() <= 1e-5


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_every_batch_is_timed_also_side_by_side(mode: Any, small_model: ModelSpec, model: Path) -> None:
    with OpenVinoBackend(small_model, model, threads=2, batch_size=4, mode=mode) as backend:
        seconds: list[float] = []
        backend.on_batch = seconds.append
        backend.classify(CHUNK, VALID, ORIGINS)
    assert len(seconds) == 7
    assert all(0 < each < 60 for each in seconds)


def test_it_says_what_runs(small_model: ModelSpec, model: Path) -> None:
    with OpenVinoBackend(small_model, model, threads=2, batch_size=1) as backend:
        said = backend.describe()
    assert said["engine"] == f"openvino {openvino.__version__.split('-')[0]}"
    assert said["provider"] == openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    assert (said["mode"], said["threads"], said["precision"], said["fallback"]) == ("throughput", 2, "fp32", None)
    assert said["streams"] >= 1
    with OpenVinoBackend(small_model, model, threads=2, mode="latency") as backend:
        assert backend.describe()["streams"] == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_this_cpu_has_is_computed(precision: str, small_model: ModelSpec, model: Path) -> None:
    if precision.upper() not in openvino.Core().get_property("CPU", CAPABILITIES):
        pytest.skip(f"this CPU has no {precision}")
    with OpenVinoBackend(small_model, model, threads=2) as backend:
        exact = backend.classify(CHUNK, VALID, ORIGINS)
    with OpenVinoBackend(small_model, model, threads=2, precision=precision) as backend:
        difference = np.abs(backend.classify(CHUNK, VALID, ORIGINS) - exact).max()
        said = backend.describe()
    assert (said["precision"], said["computes"], said["fallback"]) == (precision, _COMPUTES[precision], None)
    assert 0 < difference < 0.1


def made_up_cpu(monkeypatch: pytest.MonkeyPatch, can: list[str]) -> list[str]:
    """A CPU that says it `can`, of which the real engine only computes at fp32; the types that it was asked for."""

    class Compiled:
        def __init__(self, compiled: Any, computes: str) -> None:
            self._compiled, self._computes = compiled, computes

        def __getattr__(self, name: str) -> Any:
            return getattr(self._compiled, name)

        def get_property(self, name: str) -> Any:
            if name == "INFERENCE_PRECISION_HINT":
                return SimpleNamespace(to_string=lambda: self._computes)
            return self._compiled.get_property(name)

    def get_property(self: Any, device: str, name: str) -> Any:
        return can if name == CAPABILITIES else honest_property(self, device, name)

    def compile_model(self: Any, network: Any, device: str, options: dict[str, Any]) -> Any:
        computes = options.get("INFERENCE_PRECISION_HINT", "f32")
        asked.append(computes)
        real = honest_compile(self, network, device, options | {"INFERENCE_PRECISION_HINT": "f32"})
        return Compiled(real, computes)

    asked: list[str] = []
    honest_property, honest_compile = openvino.Core.get_property, openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "get_property", get_property)
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    return asked


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_the_cpu_has_is_asked_for(
    precision: str, small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = made_up_cpu(monkeypatch, ["FP32", "BF16", "FP16", "INT8"])
    with OpenVinoBackend(small_model, model, threads=2, precision=precision) as backend:
        said = backend.describe()
    assert asked == [_COMPUTES[precision]]
    assert (said["precision"], said["fallback"]) == (precision, None)


@pytest.mark.parametrize(
    ("precision", "can", "known"),
    [
        ("bf16", ["FP32"], "fp32"),
        ("fp16", ["FP32", "INT8", "BIN"], "fp32, int8"),
        ("fp16", ["BF16", "FP32", "INT8"], "bf16, fp32, int8"),
        ("int8", ["FP32", "BF16"], "fp32, bf16"),
    ],
)
def test_a_precision_that_the_cpu_lacks_is_never_silent(
    precision: str,
    can: list[str],
    known: str,
    small_model: ModelSpec,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with OpenVinoBackend(small_model, model, threads=2) as backend:
        exact = backend.classify(CHUNK, VALID, ORIGINS)
    asked = made_up_cpu(monkeypatch, can)
    backend = OpenVinoBackend(small_model, model, threads=2, precision=precision)
    wording = rf"{precision} was asked for, but fp32 is what would run: .* has {known} on OpenVINO"
    with pytest.raises(BenexpError, match=wording) as no:
        backend.open()
    assert "\n" not in str(no.value)
    with caplog.at_level(logging.WARNING, "benexp"):
        allowed = OpenVinoBackend(small_model, model, threads=2, precision=precision, allow_fallback=True)
        with allowed:
            said = allowed.describe()
            assert np.array_equal(allowed.classify(CHUNK, VALID, ORIGINS), exact)
    assert asked == ["f32", "f32"]
    assert (said["precision"], said["fallback"]) == ("fp32", f"fp32 in place of {precision}")
    assert f"running on fp32 in place of {precision}" in caplog.text


def test_int8_runs_where_the_cpu_has_it(small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_cpu(monkeypatch, ["FP32", "INT8"])
    with OpenVinoBackend(small_model, model, threads=2, precision="int8") as backend:
        said = backend.describe()
    assert (said["precision"], said["fallback"]) == ("int8", None)


@pytest.mark.parametrize("device", ["gpu:7", "gpu"])
def test_a_device_that_is_not_there(device: str, small_model: ModelSpec, model: Path) -> None:
    if device == "gpu" and "GPU" in "".join(openvino.Core().available_devices):
        pytest.skip("there is one here")
    with pytest.raises(
        BenexpError, match=rf"{device} was asked for, but cpu .* only .*CPU.*: install the GPU's driver"
    ):
        OpenVinoBackend(small_model, model, device=device).open()
    with OpenVinoBackend(small_model, model, device=device, threads=2, allow_fallback=True) as backend:
        said = backend.describe()
    assert (said["device"], said["fallback"], said["threads"]) == ("cpu", f"cpu in place of {device}", 2)


def test_a_device_that_openvino_chose_itself(
    small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def __init__(self, compiled: Any) -> None:
            self.compiled = compiled

        def get_property(self, name: str) -> Any:
            return ["NPU"] if name == "EXECUTION_DEVICES" else self.compiled.get_property(name)

    honest = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda *arguments: Elsewhere(honest(*arguments)))
    with pytest.raises(BenexpError, match="CPU was asked for, but NPU is what would run"):
        OpenVinoBackend(small_model, model, threads=1).open()


def test_auto_tries_batches_of_compiled_sizes(
    small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    honest = openvino.Core.compile_model

    def compile_model(self: Any, network: Any, *arguments: Any) -> Any:
        compiled.append(int(network.input(0).shape[0]))
        return honest(self, network, *arguments)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    with OpenVinoBackend(small_model, model, threads=2, batch_size="auto") as backend:
        chosen = backend.batch_size
    assert compiled[1] == 2 * compiled[0]
    assert compiled[-1] == chosen


@pytest.mark.parametrize(
    "words",
    ["Exception from allocator.cpp:79: std::bad_alloc", "[GPU] out of GPU resources", "CL_OUT_OF_HOST_MEMORY"],
)
def test_out_of_memory_halves_the_batch(
    words: str, small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = openvino.Core.compile_model

    def compile_model(self: Any, network: Any, *arguments: Any) -> Any:
        if network.input(0).shape[0] > 2:
            raise RuntimeError(words)
        return honest(self, network, *arguments)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    with OpenVinoBackend(small_model, model, threads=2, batch_size=8) as backend:
        assert backend.batch_size == 2
        assert backend.classify(CHUNK, VALID, ORIGINS).shape == (25, 19)


def test_a_request_that_fails_leaves_a_backend_that_works(
    small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenVinoBackend(small_model, model, threads=2, batch_size=1) as backend:
        expected = backend.classify(CHUNK, VALID, ORIGINS)
        honest = openvino.InferRequest.wait

        def fails(request: Any) -> None:
            honest(request)
            raise RuntimeError("a kernel broke\nat some line")

        monkeypatch.setattr(openvino.InferRequest, "wait", fails)
        with pytest.raises(BenexpError, match="failed on model small: RuntimeError: a kernel broke at some line"):
            backend.classify(CHUNK, VALID, ORIGINS)
        monkeypatch.undo()
        assert np.array_equal(backend.classify(CHUNK, VALID, ORIGINS), expected)


def test_a_file_for_other_bands_or_patches_is_refused(small_model: ModelSpec, model: Path) -> None:
    with pytest.raises(BenexpError, match=r"was exported for bands \['B02'.*, not \['B12'"):
        OpenVinoBackend(replace(small_model, bands=S2[::-1]), model).open()
    with pytest.raises(BenexpError, match=r"needs one input patches \[n, 12, 120, 120\]"):
        OpenVinoBackend(replace(small_model, bands=("B01", "B09", *S2)), model).open()
    with pytest.raises(BenexpError, match=r"needs one input patches \[n, 10, 96, 96\]"):
        OpenVinoBackend(replace(small_model, patch_size=96), model).open()


@pytest.mark.parametrize("damage", ["half an .xml", "half a .bin", "no .bin", "no .xml"])
def test_damaged_files_are_named(damage: str, small_model: ModelSpec, model: Path, tmp_path: Path) -> None:
    contents = {suffix: model.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
    how, suffix = damage.split()[0], damage.split()[-1]
    contents[suffix] = contents[suffix][: len(contents[suffix]) // 2] if how == "half" else b""
    for name, content in contents.items():
        if content:
            (tmp_path / f"m{name}").write_bytes(content)
    with pytest.raises(BenexpError, match=r"m\.xml cannot be loaded, delete it: ") as raised:
        OpenVinoBackend(small_model, tmp_path / "m.xml").open()
    assert "\n" not in str(raised.value)


def test_what_is_missing_or_unknown(small_model: ModelSpec, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenexpError, match=r"backend\.mode=fast: takes throughput, latency"):
        OpenVinoBackend(small_model, model, mode="fast")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BenexpError, match=r"pip install 'benexp\[openvino\]'"):
        OpenVinoBackend(small_model, model).open()
