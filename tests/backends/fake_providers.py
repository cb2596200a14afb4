"""A GPU by name only, for ONNX Runtime's backends: the CPU does the work of its providers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benexp.backends import onnxruntime_gpu
from benexp.backends.onnxruntime import OnnxRuntimeBackend
from benexp.backends.onnxruntime_gpu import OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from tests.models.builders import S2

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
OPTIONS = json.loads(Path(__file__).with_name("provider_options.json").read_text())
CHUNK = varied_patches(S2, 1, 200, seed=4)[0].astype(np.uint16)
VALID = np.add.outer(np.arange(200), np.arange(200)) > 120
ORIGINS = np.array([(row, col) for row in (0, 40, 80) for col in (0, 60, 80)])

no_gpu_here = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="there is onnxruntime-gpu")
both = pytest.mark.parametrize("kind", [OnnxRuntimeCudaBackend, OnnxRuntimeTensorrtBackend])


class StandIn:
    """A CPU session that says it runs on other providers; `places` says where operators of a type went."""

    def __init__(self, session: Any, providers: list[str], places: dict[str, str] | None = None) -> None:
        self._session, self._providers, self._places = session, providers, places or {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = self._session.get_provider_graph_assignment_info()
        nodes = [node for part in parts for node in part.get_nodes()]
        return [
            SimpleNamespace(
                ep_name=self._places.get(node.op_type, self._providers[0]), get_nodes=lambda node=node: [node]
            )
            for node in nodes
        ]


def check_options(provider: str, options: Mapping[str, str]) -> None:
    """Refuse what the official wheels would refuse: names and values read off them by gpu_wheel.py."""
    if provider == CPU:
        assert not options
        return
    known = OPTIONS[provider]
    for name, value in options.items():
        assert isinstance(value, str), f"{name}={value!r}: takes text"
        kind = known[name]
        if kind == "bool":
            # TensorRT's options come from Python's words alone.
            assert value in (("True", "False") if provider == TENSORRT else ("0", "1")), f"{name}={value}"
        elif kind == "int":
            int(value)
        elif kind != "str":
            assert value in kind, f"{name}={value}: takes {kind}"
        else:
            assert value, f"{name} is empty"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A GPU by name only: providers are there and load, and the CPU does their work, in CPU memory."""
    state: dict[str, Any] = {"places": {}, "asked": [], "fails": {}}

    def session_of(self: OnnxRuntimeCudaBackend, model: Any, providers: list[str]) -> Any:
        state["asked"].append([(provider, dict(self._options(provider))) for provider in providers])
        for provider in providers:
            check_options(provider, self._options(provider))
        for provider in providers:
            if message := state["fails"].get(provider):
                raise RuntimeError(message)
        if providers[0] == TENSORRT:
            folder = Path(self._options(TENSORRT)["trt_engine_cache_path"])
            if not (folder / "a.engine").exists():
                (folder / "a.engine").write_bytes(b"engine")
        session = OnnxRuntimeBackend._session_of(self, model, [CPU])
        return StandIn(session, [*providers] if CPU in providers else [*providers, CPU], state["places"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_session_of", session_of)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_find_libraries", lambda: None)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_missing", lambda provider: None)
    monkeypatch.setattr(OnnxRuntimeCudaBackend, "_memory", lambda self: ("cpu", 0))
    monkeypatch.setattr(onnxruntime_gpu, "gpu_name", lambda index: f"GPU {index}")
    yield state


@pytest.fixture(scope="module")
def expected(small_model: ModelSpec, small_onnx: Path) -> np.ndarray:
    with OnnxRuntimeBackend(small_model, small_onnx, threads=2) as backend:
        return backend.classify(CHUNK, VALID, ORIGINS)
