import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benexp.backends import torch as torch_module
from benexp.backends.torch import TorchBackend
from benexp.core.errors import BenexpError
from benexp.models.classifier import load_classifier
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from tests.models.builders import S2


def classify_one(backend: TorchBackend) -> np.ndarray:
    chunk = varied_patches(S2, 1, seed=6)[0].astype(np.uint16)
    with backend:
        return backend.classify(chunk, np.ones((120, 120), bool), np.zeros((1, 2), int))


def test_answers_are_the_classifier_s(small_model: ModelSpec) -> None:
    with torch.inference_mode():
        expected = load_classifier(small_model)(torch.from_numpy(varied_patches(S2, 1, seed=6))).numpy()
    assert classify_one(TorchBackend(small_model, threads=2)) == pytest.approx(expected, abs=1e-5)


def test_bf16_is_near_but_not_the_same(small_model: ModelSpec) -> None:
    exact = classify_one(TorchBackend(small_model, threads=2))
    rounded = classify_one(TorchBackend(small_model, precision="bf16", threads=2))
    assert 0 < np.abs(exact - rounded).max() < 0.3


def test_fp16_is_nearer_than_bf16(small_model: ModelSpec) -> None:
    exact, half, brain = (
        classify_one(TorchBackend(small_model, precision=precision, threads=2))
        for precision in ("fp32", "fp16", "bf16")
    )
    assert 0 < np.abs(exact - half).max() < np.abs(exact - brain).max()


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: apt-get install g++")
def test_compiled_answers_are_the_same(small_model: ModelSpec) -> None:
    eager = TorchBackend(small_model, batch_size=4, threads=2)
    compiled = TorchBackend(small_model, batch_size=4, threads=2, compile=True)
    assert classify_one(compiled) == pytest.approx(classify_one(eager), abs=1e-4)
    assert compiled.describe()["compile"]


def test_cudnn_stays_on_and_tf32_off(small_model: ModelSpec) -> None:
    """Of use on GPUs only, and seen here all the same."""
    seen = []

    class Watching(TorchBackend):
        def _of_shape(self, answer: Any, count: int) -> Any:
            if isinstance(answer, torch.Tensor):
                seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
            return super()._of_shape(answer, count)

    classify_one(Watching(small_model, threads=2))
    assert seen
    assert set(seen) == {(True, False)}


def test_compile_takes_true_or_false(small_model: ModelSpec) -> None:
    with pytest.raises(BenexpError, match=r"backend\.compile=maybe: takes true or false"):
        TorchBackend(small_model, compile="maybe")


def test_threads_hold_while_open_only(small_model: ModelSpec) -> None:
    before = torch.get_num_threads()
    with TorchBackend(small_model, threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(small_model: ModelSpec) -> None:
    with pytest.raises(BenexpError, match=r"cuda was asked for, but cpu .*: torch .* sees no CUDA device"):
        TorchBackend(small_model, device="cuda").open()


@pytest.mark.parametrize(("pads", "batches"), [(False, [3, 2]), (True, [3, 3])])
def test_batches_are_even_and_the_last_is_filled_up_where_it_pads(
    pads: bool, batches: list[int], small_model: ModelSpec
) -> None:
    backend = TorchBackend(small_model, batch_size=4, threads=2)
    assert not backend.pads
    assert TorchBackend(small_model, compile=True).pads
    backend.pads = pads
    chunk = varied_patches(S2, 1, seed=6)[0].astype(np.uint16)
    with backend:
        seen, network = [], backend._model
        backend._model = lambda patches: seen.append(len(patches)) or network(patches)
        backend.classify(chunk, np.ones((120, 120), bool), np.zeros((5, 2), int))
    assert seen == batches


class OldConfig:
    """torch._dynamo.config as torch 2.6 has it, which refuses names that it does not know."""

    __slots__ = ("cache_size_limit", "fail_on_cache_limit_hit")


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that torch.compile is asked for, which needs no compiler here."""
    asked: list[str] = []

    def compiled(network: Any, *, mode: str, dynamic: bool) -> Any:
        assert not dynamic
        asked.append(mode)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch._dynamo, "config", OldConfig())
    return asked


def in_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_no_graphs_on_a_cpu_and_one_compilation_for_all_threads(modes: list[str], small_model: ModelSpec) -> None:
    chunk, valid = varied_patches(S2, 1, seed=6)[0].astype(np.uint16), np.ones((120, 120), bool)
    with TorchBackend(small_model, threads=2, batch_size=2, compile=True) as backend:

        def classify() -> np.ndarray:
            return backend.classify(chunk, valid, np.zeros((1, 2), int))

        here, there = classify(), in_another_thread(classify)
        classify()
    assert modes == ["default"]
    assert torch._dynamo.config.fail_on_cache_limit_hit  # type: ignore[attr-defined]
    assert np.array_equal(here, there)


@pytest.mark.parametrize("opened_by_main", [True, False])
def test_threads_in_turn_compile_twice_at_most(
    opened_by_main: bool, modes: list[str], small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA graphs are replayed by the thread that captured them; the first other thread ends them for good."""
    chunk, valid = varied_patches(S2, 1, seed=6)[0].astype(np.uint16), np.ones((120, 120), bool)
    backend = TorchBackend(small_model, threads=2, batch_size=2, compile=True)
    honest = backend._compiled
    main = threading.current_thread()

    def compiled(graphs: bool) -> Any:
        # As on a GPU, for which the CPU stands in: graphs where the main thread opens.
        return honest(graphs or (threading.current_thread() is main and not modes))

    monkeypatch.setattr(backend, "_compiled", compiled)
    if opened_by_main:
        backend.open()
    else:
        in_another_thread(backend.open)
    for _ in range(2):
        backend.classify(chunk, valid, np.zeros((1, 2), int))
        in_another_thread(lambda: backend.classify(chunk, valid, np.zeros((1, 2), int)))
    backend.close()
    assert modes == (["reduce-overhead", "default"] if opened_by_main else ["default"])


def test_what_runs_is_on_record(small_model: ModelSpec) -> None:
    with TorchBackend(small_model, threads=2, cudnn_benchmark=True) as backend:
        said = backend.describe()
    assert (said["cudnn_benchmark"], said["tf32"], said["compile"]) == (True, False, False)


@pytest.mark.parametrize(
    ("device", "precision", "asked", "override", "runs"),
    [
        ("cuda", "fp32", True, None, True),
        ("cuda", "fp32", True, "1", True),
        ("cuda", "fp32", True, "0", False),
        ("cuda", "fp32", False, "1", False),
        ("cuda", "fp16", True, None, False),
        ("cpu", "fp32", True, None, False),
    ],
)
def test_tf32_is_on_record_only_where_it_runs(
    device: str,
    precision: str,
    asked: bool,
    override: str | None,
    runs: bool,
    small_model: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert TorchBackend(small_model, device=device, precision=precision, tf32=asked).describe()["tf32"] is runs


def test_a_batch_s_time_has_its_cut_in_it(small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    honest = torch_module.cut_batches

    def cut_batches(*arguments: Any, **more: Any) -> Any:
        for cut, real in honest(*arguments, **more):

            def slowly(cut: Any = cut) -> Any:
                now[0] += 3
                return cut()

            yield slowly, real

    monkeypatch.setattr("benexp.backends.batching.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(torch_module, "cut_batches", cut_batches)
    seconds: list[float] = []
    with TorchBackend(small_model, threads=2, batch_size=2) as backend:
        network = backend._model

        def model(patches: Any) -> Any:
            now[0] += 5
            return network(patches)

        backend._model = model
        backend.on_batch = seconds.append
        chunk = varied_patches(S2, 1, seed=6)[0].astype(np.uint16)
        backend.classify(chunk, np.ones((120, 120), bool), np.zeros((4, 2), int))
    assert seconds == [8, 8]
