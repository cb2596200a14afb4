"""A stand-in for the tensorrt module, whose libraries cannot be had here.

It has what benexp calls, records the calls, and runs an "engine" as the ONNX file that it was built from, on ONNX
Runtime, at the addresses that it is given. Classes, methods, arguments and enumerations are those that the Python
bindings of TensorRT 10.0, 10.13 and 11.1 have in common (tensorrt_api.json, read off github.com/NVIDIA/TensorRT);
whatever else is asked for, in another type or in another order, fails.
"""

import ctypes
import enum
import functools
import inspect
import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch

import benexp.backends.tensorrt
import benexp.core.tensorrt
import exporters.tensorrt
from exporters.tensorrt_int8 import UNDOES
from tests.backends.fake_cuda import FakeEvent, FakeStream, LateUploader

GPU = "Some GPU, compute capability 9.0"
STREAM = 77
API = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())


def enumeration(name: str) -> Any:
    """An enumeration with the members that all versions have, numbered as in the oldest."""
    versions = [api["enums"][name] for api in API.values()]
    members = {member: at for at, member in enumerate(versions[0]) if all(member in known for known in versions)}
    return enum.IntEnum(name, members)


Severity, BuilderFlag, MemoryPoolType = map(enumeration, ("Severity", "BuilderFlag", "MemoryPoolType"))
NetworkDefinitionCreationFlag = enumeration("NetworkDefinitionCreationFlag")


class Fake(SimpleNamespace):
    """The module; `calls` lists (name, arguments), the other attributes below choose what goes wrong."""

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def arguments(self, name: str) -> tuple[Any, ...]:
        return next(arguments for called, arguments in self.calls if called == name)


class FakeGpu:
    """Torch's CPU in the place of its GPU."""

    def __init__(self, device: str = "cuda") -> None:
        self.asked = device
        self.device = torch.device("cpu")
        self.name = GPU
        self.stream = STREAM

    @staticmethod
    def is_there() -> bool:
        return True

    is_current: ClassVar[bool] = False
    is_working: ClassVar[bool] = False

    def synchronize(self) -> None:
        FakeGpu.is_working = False

    @contextmanager
    def current(self) -> Iterator[None]:
        FakeGpu.is_current, before = True, FakeGpu.is_current
        yield
        FakeGpu.is_current = before


@pytest.fixture
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = make_fake()
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", fake)
    for module in (benexp.core.tensorrt, benexp.backends.tensorrt, exporters.tensorrt):
        monkeypatch.setattr(module, "Gpu", FakeGpu)
    for module in (benexp.core.tensorrt, exporters.tensorrt):
        monkeypatch.setattr(module, "gpu_name", lambda *_: GPU)
    monkeypatch.setattr(FakeGpu, "is_working", False)
    monkeypatch.setattr(benexp.backends.tensorrt, "Uploader", LateUploader)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    working = FakeStream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: working)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    benexp.core.tensorrt.logger.cache_clear()
    yield fake
    benexp.core.tensorrt.logger.cache_clear()


def make_fake() -> Fake:
    fake = Fake(__version__="10.9.0.34", calls=[], most=None, timing_matches=True, refuses_execution=False)

    def note(name: str, *arguments: Any) -> None:
        fake.calls.append((name, arguments))

    class ILogger:
        def __init__(self) -> None:
            self.is_whole = True

    ILogger.Severity = Severity  # type: ignore[attr-defined]

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return self.content + b"measured;"

    class Profile:
        shape: tuple[int, ...] = ()

        def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
            assert name == "patches"
            assert all(isinstance(n, int) for n in least)
            assert least == best == most
            self.shape = least

    class Config:
        def __init__(self) -> None:
            self.cache: TimingCache | None = None
            self.profiles: list[Profile] = []
            self.is_used = False

        def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
            assert not self.is_used
            assert isinstance(pool, MemoryPoolType)
            assert type(size) is int
            note("set_memory_pool_limit", pool.name, size)

        def clear_flag(self, flag: BuilderFlag) -> None:
            assert not self.is_used
            assert isinstance(flag, BuilderFlag)
            note("clear_flag", flag.name)

        def add_optimization_profile(self, profile: Profile) -> int:
            assert not self.is_used
            assert isinstance(profile, Profile)
            assert profile.shape, "a profile is added before it has shapes"
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, content: bytes) -> TimingCache:
            note("create_timing_cache", bytes(content))
            return TimingCache(bytes(content))

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert isinstance(cache, TimingCache)
            assert ignore_mismatch is False
            if cache.content and not fake.timing_matches:
                return False
            self.cache = cache
            return True

        def get_timing_cache(self) -> TimingCache | None:
            return self.cache

    class Network:
        content: bytes = b""

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_whole
            self.logger: Any = logger

        def create_network(self, flags: int = 0) -> Network:
            note("create_network", flags)
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
            (profile,) = config.profiles
            assert network.content, "a network is built before it is read"
            assert not config.is_used
            config.is_used = True
            note("build_serialized_network", profile.shape)
            if fake.most is not None and profile.shape[0] > fake.most:
                self.logger.log(Severity.WARNING, "Requested amount of GPU memory could not be allocated.")
                self.logger.log(Severity.ERROR, "Error Code 2: OutOfMemory\n (no further information)")
                return None
            head = json.dumps(profile.shape).encode()
            return memoryview(b"PLAN" + head + b"\n" + network.content)

    class OnnxParser:
        def __init__(self, network: Network, logger: ILogger) -> None:
            assert isinstance(network, Network)
            assert logger.is_whole
            self.network = network
            self.num_errors = 0

        def parse(self, content: bytes) -> bool:
            assert isinstance(content, bytes)
            try:
                onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            except Exception:
                self.num_errors = 1
                return False
            self.network.content = content
            return True

        def get_error(self, index: int) -> SimpleNamespace:
            assert index == 0
            return SimpleNamespace(desc=lambda: "no such\noperator")

    class Context:
        def __init__(self, shape: list[int], content: bytes) -> None:
            self.shape = shape
            self.session = onnxruntime.InferenceSession(
                content, providers=["CPUExecutionProvider"], disabled_optimizers=set(UNDOES)
            )
            self.addresses: dict[str, int] = {}
            self.is_set = False
            weakref.finalize(self, lambda: note("drop_context", FakeGpu.is_working)).atexit = False

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert (name, type(shape)) == ("patches", tuple)
            self.is_set = list(shape) == self.shape
            return self.is_set

        def get_tensor_shape(self, name: str) -> list[int]:
            assert self.is_set
            return {"patches": self.shape, "probabilities": [self.shape[0], 19]}[name]

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert name in ("patches", "probabilities")
            assert type(address) is int
            assert self.is_set, "an address is given before the shape"
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            note("execute_async_v3", stream)
            assert set(self.addresses) == {"patches", "probabilities"}
            # Else what was put into torch's stream, the patches and the copy of the answers, would not be in order.
            assert stream == torch.cuda.current_stream(None).cuda_stream
            assert FakeGpu.is_current
            FakeGpu.is_working = True
            if fake.refuses_execution:
                return False
            patches = _at(self.addresses["patches"], self.shape)
            _at(self.addresses["probabilities"], [self.shape[0], 19])[:] = self.session.run(None, {"patches": patches})[
                0
            ]
            return True

    class Engine:
        def __init__(self, plan: bytes) -> None:
            head, _, self.content = plan.removeprefix(b"PLAN").partition(b"\n")
            self.shape = json.loads(head)

        def create_execution_context(self) -> Context:
            return Context(self.shape, self.content)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_whole
            self.logger: Any = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            assert isinstance(plan, bytes)
            if not plan.startswith(b"PLAN"):
                self.logger.log(Severity.ERROR, "Serialization assertion stdVersionRead failed.")
                return None
            return Engine(plan)

    bindings = {
        "ITimingCache": TimingCache,
        "IOptimizationProfile": Profile,
        "IBuilderConfig": Config,
        "Builder": Builder,
        "OnnxParser": OnnxParser,
        "IExecutionContext": Context,
        "ICudaEngine": Engine,
        "Runtime": Runtime,
    }
    for name, bound in bindings.items():
        as_documented(bound, name)
    for kind in (ILogger, NetworkDefinitionCreationFlag, BuilderFlag, MemoryPoolType, Builder, OnnxParser, Runtime):
        setattr(fake, kind.__name__, kind)
    return fake


def as_documented(kind: type, name: str) -> None:
    """Let the methods of `kind` take what those of the bindings' class take in all versions, and no other arguments."""
    documented = [api["methods"][name] for api in API.values()]
    for method, function in list(vars(kind).items()):
        if inspect.isfunction(function) and (not method.startswith("_") or method in documented[0]):
            setattr(kind, method, _checked(function, f"{name}.{method}", [api[method] for api in documented]))


def _checked(function: Any, name: str, versions: list[list[list[str]]]) -> Any:
    @functools.wraps(function)
    def call(self: Any, *arguments: Any, **more: Any) -> Any:
        for overloads in versions:
            fits = any(
                len(arguments) <= len(taken) and set(more) <= set(taken[len(arguments) :]) for taken in overloads
            )
            assert fits, f"{name} takes {overloads}, not {arguments} {more}"
        return function(self, *arguments, **more)

    return call


def _at(address: int, shape: list[int]) -> Any:
    """The float32 array at an address."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
