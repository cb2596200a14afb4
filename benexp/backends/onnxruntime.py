"""ONNX Runtime on the CPU, running the exported model."""

import json
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benexp import cores
from benexp.backends.base import Backend, Needs
from benexp.errors import BenexpError


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime's CPU provider at fp32."""

    needs: ClassVar[Needs] = "onnx"
    # A patch's scores on this provider are the same to the bit whatever the batch it comes in.
    pads: ClassVar[bool] = False

    _PROVIDER: ClassVar[str] = "CPUExecutionProvider"
    _session: Any

    def _open(self) -> None:
        if self.artefact is None:
            raise RuntimeError("OnnxRuntimeBackend was given no .onnx file")
        try:
            import onnxruntime
        except ImportError as error:
            raise BenexpError(f"backend=onnxruntime-cpu needs {error.name}: pip install 'benexp[cpu]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or cores.available()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(self.artefact, options, providers=[self._PROVIDER])
        # ONNX Runtime's exceptions share no base class of their own.
        except Exception as error:
            raise BenexpError(f"{self.artefact} cannot be loaded, delete it: {str(error).splitlines()[0]}") from error
        active = session.get_providers()
        if active[0] != self._PROVIDER:
            raise BenexpError(f"ONNX Runtime runs {self.artefact} on {active[0]}, not on {self._PROVIDER} as asked")
        self._check_input(session)
        self._session = session

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

    def _infer(self, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        answer: npt.NDArray[np.float32] = self._session.run(["probabilities"], {"patches": patches})[0]
        return answer

    def _close(self) -> None:
        self._session = None

    def describe(self) -> dict[str, Any]:
        import onnxruntime

        return super().describe() | {
            "engine": f"onnxruntime {onnxruntime.__version__}",
            "provider": self._PROVIDER,
            "threads": self.threads or cores.available(),
        }
