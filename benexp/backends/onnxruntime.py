"""ONNX Runtime, running the exported model: what its backends share, and the one for the CPU."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp.backends.base import Backend, Needs
from benexp.core import cores
from benexp.core.errors import BenexpError, one_line
from benexp.core.installed import RUNTIMES, import_onnxruntime, installed_runtimes

HEAVY = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "FusedConv", "NhwcConv", "QLinearConv"),
        *("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul"),
        *("Attention", "MultiHeadAttention", "Einsum"),
    )
)
"""Operators whose place decides the speed; the shape bookkeeping that every provider leaves to the CPU does not."""

_UNREADABLE = ("InvalidProtobuf", "InvalidGraph", "NoModel", "NoSuchFile")
_OUT_OF_MEMORY = (
    "failed to allocate memory",
    "is smaller than requested bytes",
)
_NO_ENGINE = "tensorrt ep failed to create engine from network"
"""TensorRT's reasons go to its own log: it may be memory, or a network that no batch makes it take."""


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime's CPU provider, at fp32 or with a file that was quantised to int8."""

    needs: ClassVar[Needs] = "onnx"
    libraries: ClassVar[tuple[str, ...]] = RUNTIMES
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    # A patch's scores on this provider are the same to the bit whatever the batch it comes in.
    pads = False

    _EXTRA: ClassVar[str] = "cpu"
    _PROVIDERS: ClassVar[tuple[str, ...]] = ("CPUExecutionProvider",)
    """The provider that is asked for, and those that take what it leaves over."""
    _DISABLED: ClassVar[tuple[str, ...]] = ()
    """ONNX Runtime's own changes to a graph that are left out."""

    _without_engine: set[int]
    """The batch sizes at which TensorRT made no engine, for reasons of its own."""
    _session: Any = None
    _provider = ""
    """The one that runs the model."""
    _fixed: int | None = None
    """The batch size that the file was exported for, where it takes no other."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._without_engine = set()

    @classmethod
    def check_available(cls, *, allow_fallback: bool = False) -> None:
        import_onnxruntime(cls.__name__, cls._EXTRA)
        able, problem = cls._able(cls._PROVIDERS)
        if cls._PROVIDERS[0] not in able and not allow_fallback:
            assert problem
            raise cls._fallback_error(cls._PROVIDERS[0], able[0], problem)

    def _open(self) -> None:
        if self.artefact is None:
            raise RuntimeError(f"{type(self).__name__} was given no .onnx file")
        self._session, self._provider = self._start(self.artefact, self._PROVIDERS)
        self._check_input(self._session)

    def _start(self, model: Any, providers: Sequence[str], decisive: frozenset[str] = HEAVY) -> tuple[Any, str]:
        """A session of `model` (a path or bytes) on the first of `providers`, and the provider that it really runs on.

        That is another one only where `allow_fallback`: where the one asked for is missing, or does not take all
        operators of the `decisive` types.
        """
        asked = providers[0]
        able, problem = self._able(providers)
        failure: Exception | None = None
        while True:
            try:
                session = self._session_of(model, able)
                break
            # ONNX Runtime's exceptions share no base class of their own.
            except Exception as error:
                if self._is_out_of_memory(error):
                    raise
                if type(error).__name__ in _UNREADABLE:
                    reason = str(error).splitlines()[0]
                    raise BenexpError(f"{model} cannot be loaded, delete it: {reason}") from error
                # Perhaps it is the provider that fails, and not the model: the next one shows.
                failure = failure or error
                if len(able) == 1:
                    raise failure from None
                del able[0]
        active, misplaced = _where(session, asked, decisive)
        if active != asked:
            remedy = one_line(failure) if failure else "it took none of the model: choose another precision or backend"
            self._fell_back(asked, active, problem or remedy)
        elif misplaced:
            self._fell_back(asked, misplaced, "it does not take those: choose another precision or backend")
        return session, active

    @classmethod
    def _able(cls, providers: Sequence[str]) -> tuple[list[str], str | None]:
        """Those of `providers` that can load here, and what the first of the others lacks."""
        import onnxruntime

        lacks = {}
        for provider in providers:
            if provider in onnxruntime.get_available_providers():
                lacks[provider] = cls._missing(provider)
            else:
                others = " ".join(name for name in installed_runtimes() if name != "onnxruntime-gpu")
                remove = f"pip uninstall -y {others} && " if others else ""
                install = f"{remove}pip install 'benexp[{cls._EXTRA}]'"
                lacks[provider] = f"onnxruntime {onnxruntime.__version__} has no {provider}: {install}"
        able = [provider for provider, missing in lacks.items() if not missing]
        return able, next((missing for missing in lacks.values() if missing), None)

    def _session_of(self, model: Any, providers: Sequence[str]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or cores.available()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        wanted = [(provider, dict(self._options(provider))) for provider in providers]
        # Without its own fallback, which prints and goes on.
        session = onnxruntime.InferenceSession(
            model, options, providers=wanted, enable_fallback=0, disabled_optimizers=set(self._DISABLED)
        )
        session.disable_fallback()
        return session

    def _options(self, provider: str) -> Mapping[str, str]:
        """The provider's options."""
        return {}

    @classmethod
    def _missing(cls, provider: str) -> str | None:
        """The library that `provider` lacks on this machine, and how to get it."""
        return None

    def _check_input(self, session: Any) -> None:
        inputs = {node.name: node.shape for node in session.get_inputs()}
        wanted = [len(self.spec.bands), self.spec.patch_size, self.spec.patch_size]
        if list(inputs) != ["patches"] or list(inputs["patches"])[1:] != wanted:
            raise BenexpError(
                f"{self.artefact} takes {inputs}, but model {self.spec.name} needs one input patches [n, "
                f"{', '.join(map(str, wanted))}]: was it exported for another model?"
            )
        properties = session.get_modelmeta().custom_metadata_map
        bands = json.loads(properties.get("benexp.bands", "null"))
        if bands != list(self.spec.bands):
            raise BenexpError(f"{self.artefact} was exported for bands {bands}, not {list(self.spec.bands)}")
        holds = json.loads(properties.get("benexp.precision", "null"))
        if holds != self.artefact_precision(self.precision):
            raise BenexpError(
                f"{self.artefact} holds {holds}, which is not what backend.precision={self.precision} runs: "
                f"set backend.precision={holds}"
            )
        batch = inputs["patches"][0]
        self._fixed = batch if isinstance(batch, int) else None
        if self._fixed not in (None, self.batch_size):
            raise BenexpError(
                f"{self.artefact} was exported for batches of {batch} and no others: set backend.batch_size={batch}"
            )

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        count = len(patches)
        if self._fixed and count < self._fixed:
            patches = np.concatenate([patches, np.repeat(patches[-1:], self._fixed - count, 0)])
        answer: npt.NDArray[np.float32] = self._session.run(["probabilities"], {"patches": patches})[0]
        return answer[:count]

    def _is_out_of_memory(self, error: Exception) -> bool:
        said = str(error).lower()
        if _NO_ENGINE in said:
            self._without_engine.add(self.batch_size)
            return len(self._without_engine) < 2
        return any(words in said for words in _OUT_OF_MEMORY) or super()._is_out_of_memory(error)

    def _close(self) -> None:
        self._session = None

    def describe(self) -> dict[str, Any]:
        import onnxruntime

        return super().describe() | {
            "engine": f"onnxruntime {onnxruntime.__version__}",
            "provider": self._provider or self._PROVIDERS[0],
            "threads": self.threads or cores.available(),
            "artefact": str(self.artefact) if self.artefact else None,
        }


def _where(session: Any, asked: str, decisive: frozenset[str]) -> tuple[str, str]:
    """The provider that runs the model, and in words what others run of the decisive operators."""
    if asked not in session.get_providers():
        return session.get_providers()[0], ""
    # ONNX Runtime before 1.24 does not say where its nodes went.
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return asked, ""
    places = Counter(
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if node.op_type in decisive
    )
    if places and asked not in {provider for provider, _ in places}:
        return places.most_common(1)[0][0][0], ""
    others = {place: count for place, count in sorted(places.items()) if place[0] != asked}
    return asked, ", ".join(f"{provider} for {count} {kind}" for (provider, kind), count in others.items())
