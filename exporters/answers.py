"""Models as functions of patches: torch at fp32, and exported files on ONNX Runtime's CPU provider."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benexp.core import cores
from benexp.core.errors import BenexpError
from benexp.core.installed import import_onnxruntime
from benexp.models.spec import ModelSpec
from exporters.parity import Answer, Patches

if TYPE_CHECKING:
    from benexp.models.classifier import Classifier


def reference_answer(spec: ModelSpec) -> Answer:
    """The model as it is: its checkpoint on torch at fp32, or the exported file, where that is all there is."""
    if spec.weights == "onnx":
        return onnx_answer(spec.path)
    try:
        from benexp.models.classifier import load_classifier
    except ImportError as error:
        raise BenexpError(
            f"checking a file of {spec.name} against its checkpoint needs {error.name}: pip install 'benexp[torch]', "
            f"or make it of an exported file with model=onnx model.path=FILE"
        ) from error

    return torch_answer(load_classifier(spec))


def reference_name(spec: ModelSpec) -> str:
    """The model behind `reference_answer`, in words."""
    return f"{spec.path.name} ({spec.precision})" if spec.weights == "onnx" else "the model on torch at fp32"


def torch_answer(classifier: "Classifier") -> Answer:
    import torch

    def answer(patches: Patches) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return classifier(torch.from_numpy(patches)).numpy()  # type: ignore[no-any-return]

    return answer


def onnx_answer(path: Path, disabled: Collection[str] = ()) -> Answer:
    """An .onnx file on ONNX Runtime's CPU provider, without its `disabled` changes to the graph."""
    onnxruntime = import_onnxruntime(f"checking {path.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores.available()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=set(disabled)
    )

    def answer(patches: Patches) -> npt.NDArray[np.float32]:
        return session.run(["probabilities"], {"patches": patches})[0]  # type: ignore[no-any-return]

    return answer
