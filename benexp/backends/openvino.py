"""OpenVINO on CPUs and Intel's GPUs, running the model exported to its own format."""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend, Needs
from benexp.backends.patches import Part, count
from benexp.core import cores
from benexp.core.errors import BenexpError, one_line

MODES = ("throughput", "latency")

_COMPUTES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""OpenVINO's words for what it computes in."""
_OUT_OF_MEMORY = (
    "out of gpu resources",
    "buffer allocation failed",
    "exceeded max size of memory",
    "could not allocate memory",
    "cl_mem_object_allocation_failure",
    "cl_out_of_",
)


class OpenVinoBackend(Backend):
    """OpenVINO on `cpu` or `gpu` (`gpu:1`, ...) at fp32, bf16, fp16 or int8.

    `mode` is OpenVINO's hint: `throughput` runs as many batches side by side as suit the device, `latency` one after
    the other, each on all cores. In both, the next batch is cut while others run.
    """

    needs: ClassVar[Needs] = "openvino"
    libraries: ClassVar[tuple[str, ...]] = ("openvino",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16", "int8")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    fixed_batch = True

    _compiled: Any = None
    _provider: str | None = None

    def __init__(self, *args: Any, mode: Literal["throughput", "latency"] = "throughput", **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if mode not in MODES:
            raise BenexpError(f"backend.mode={mode}: takes {', '.join(MODES)}")
        self.mode = mode

    @classmethod
    def artefact_precision(cls, precision: str) -> str:
        # OpenVINO rounds the weights itself when it compiles.
        return "int8" if precision == "int8" else "fp32"

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise BenexpError(f"backend=openvino needs {error.name}: pip install 'benexp[openvino]'") from error

    def _open(self) -> None:
        if self.artefact is None:
            raise RuntimeError("OpenVinoBackend was given no model")
        import openvino

        core = openvino.Core()
        device = self._device(core.available_devices, openvino.__version__)
        self._provider = core.get_property(device, "FULL_DEVICE_NAME")
        # Left on, whoever writes to the .bin while it is in use ends this process with a bus error.
        core.set_property({"ENABLE_MMAP": False})
        try:
            model = core.read_model(self.artefact)
        # OpenVINO's exceptions share no base class of their own.
        except Exception as error:
            raise BenexpError(f"{self.artefact} cannot be loaded, delete it: {one_line(error)}") from error
        self._check(model)
        # Kernels for one shape are the faster ones.
        model.reshape([self.batch_size, len(self.spec.bands), self.spec.patch_size, self.spec.patch_size])
        asked = self.precision
        can = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        computes = _COMPUTES.get(asked) if asked.upper() in can else "f32"
        self._compiled = core.compile_model(model, device, self._options(device, computes))
        self._compare_precision(asked, can)
        active = self._compiled.get_property("EXECUTION_DEVICES")
        if [_with_number(name) for name in active] != [_with_number(device)]:
            self._fell_back(device, ", ".join(active), "set backend.device to a device that OpenVINO uses")

    def _device(self, available: list[str], version: str) -> str:
        """OpenVINO's name of the device: `cpu` where the one asked for is not there and that is accepted."""
        device = self.device.upper().replace(":", ".")
        if _with_number(device) in [_with_number(name) for name in available]:
            return device
        self._fell_back(
            self.device,
            "cpu",
            f"OpenVINO {_short(version)} sees no such device, only {', '.join(available)}: install the GPU's driver "
            f"(its OpenCL runtime)",
        )
        self.device = "cpu"
        return "CPU"

    def _check(self, model: Any) -> None:
        inputs = {node.get_any_name(): [str(size) for size in node.partial_shape] for node in model.inputs}
        wanted = [str(len(self.spec.bands)), str(self.spec.patch_size), str(self.spec.patch_size)]
        if list(inputs) != ["patches"] or inputs["patches"][1:] != wanted:
            raise BenexpError(
                f"{self.artefact} takes {inputs}, but model {self.spec.name} needs one input patches [n, "
                f"{', '.join(wanted)}]: was it exported for another model?"
            )
        where = ["benexp", "bands"]
        bands = json.loads(model.get_rt_info(where).value) if model.has_rt_info(where) else None
        if bands != list(self.spec.bands):
            raise BenexpError(f"{self.artefact} was exported for bands {bands}, not {list(self.spec.bands)}")

    def _options(self, device: str, computes: str | None) -> dict[str, Any]:
        options: dict[str, Any] = {"PERFORMANCE_HINT": self.mode.upper()}
        # Not left to OpenVINO, which takes bf16 for fp32 models where the CPU has AMX. What is not quantised of an int8
        # model may be bf16 there: its rounding is finer than that of 8 bits.
        if computes:
            options["INFERENCE_PRECISION_HINT"] = computes
        if device == "CPU":
            # It counts the machine's cores whatever the quota, and pins its threads to the first of them: the same
            # ones for every process, and where benexp decodes.
            options |= {"INFERENCE_NUM_THREADS": self.threads or cores.available(), "ENABLE_CPU_PINNING": False}
        return options

    def _compare_precision(self, asked: str, can: list[str]) -> None:
        """Compare what the engine computes in with what was asked: where it cannot, it takes fp32 without a word."""
        active = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if active == _COMPUTES.get(asked) or (asked == "int8" and "INT8" in can):
            return
        runs = next((name for name, type_ in _COMPUTES.items() if type_ == active), active)
        known = ", ".join(name.lower() for name in can if name.lower() in self.precisions)
        self._fell_back(asked, runs, f"{self._provider} has {known} on OpenVINO: set backend.precision={runs}")
        self.precision = runs

    def _sample(self) -> Part:
        # A batch for each request: one alone would neither warm nor measure the others.
        chunk, origins = super()._sample()
        return chunk, np.repeat(origins, self._requests(), axis=0)

    def _requests(self) -> int:
        """The number of batches held at once: those that run, and one that is being cut."""
        return 1 + int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def _classify(self, parts: Sequence[Part]) -> npt.NDArray[np.float32]:
        answers = np.empty((count(parts), len(self.spec.classes)), np.float32)
        # Fresh ones for each chunk, which cost nothing: a failure leaves none behind that still runs.
        idle = [self._compiled.create_infer_request() for _ in range(self._requests())]
        running: deque[tuple[Any, int, int]] = deque()

        def collect() -> None:
            request, start, real = running.popleft()
            request.wait()
            if self.on_batch:
                self.on_batch(request.latency / 1000)
            answers[start : start + real] = self._of_shape(request.get_output_tensor().data, self.batch_size)[:real]
            idle.append(request)

        def next_input() -> npt.NDArray[np.float32]:
            """That of the request that runs next: patches are cut where it reads them."""
            if not idle:
                collect()
            return idle[-1].get_input_tensor().data  # type: ignore[no-any-return]

        start = 0
        for _, real in self._batches(parts, next_input):
            request = idle.pop()
            request.start_async()
            running.append((request, start, real))
            start += real
        while running:
            collect()
        return answers

    def _is_out_of_memory(self, error: Exception) -> bool:
        said = str(error).lower()
        return super()._is_out_of_memory(error) or any(words in said for words in _OUT_OF_MEMORY)

    def _close(self) -> None:
        self._compiled = None

    def describe(self) -> dict[str, Any]:
        import openvino

        active = {}
        if self._compiled is not None:
            active["streams"] = self._compiled.get_property("NUM_STREAMS")
            active["computes"] = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            if self.device == "cpu":
                active["threads"] = self._compiled.get_property("INFERENCE_NUM_THREADS")
        return (
            super().describe()
            | {"engine": f"openvino {_short(openvino.__version__)}", "provider": self._provider, "mode": self.mode}
            | active
        )


def _with_number(device: str) -> str:
    """OpenVINO leaves the number out where there is only one such device."""
    return device if "." in device else f"{device}.0"


def _short(version: str) -> str:
    return version.partition("-")[0]
