"""What an exported .onnx file says about itself: enough to be used as a model on its own. No torch here."""

import json
from pathlib import Path
from typing import Any

from benexp.errors import BenexpError
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from benexp.version import __version__

_FIELDS = ("name", "architecture", "bands", "means", "stds", "patch_size", "classes", "weights", "source", "revision")


def to_metadata(spec: ModelSpec, precision: str) -> dict[str, str]:
    """The metadata_props of an export of `spec`: every value is JSON."""
    content = {field: getattr(spec, field) for field in _FIELDS}
    content |= {
        "trained": spec.trained,
        "weights_hash": spec.weights_hash,
        "precision": precision,
        "benexp_version": __version__,
    }
    return {f"benexp.{key}": json.dumps(value) for key, value in content.items()}


def read_metadata(path: Path) -> dict[str, Any]:
    """What `to_metadata` wrote; BenexpError where `path` is no ONNX file or was not exported by benexp."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise BenexpError("reading an .onnx file needs ONNX Runtime: pip install 'benexp[cpu]'") from error
    options = onnxruntime.SessionOptions()
    # Only the metadata is wanted: optimising the graph takes most of the loading time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions share no base class of their own.
    except Exception as error:
        raise BenexpError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from error
    properties = session.get_modelmeta().custom_metadata_map
    content = {
        key.removeprefix("benexp."): json.loads(value) for key, value in properties.items() if key.startswith("benexp.")
    }
    if missing := [field for field in _FIELDS if field not in content]:
        raise BenexpError(f"{path} does not say its {missing[0]}: model.path takes an .onnx file that benexp exported")
    return content


def spec_of_onnx(path: Path, patch_size: int) -> ModelSpec:
    """The model in an exported file; BenexpError where it was exported for other patches than `patch_size`."""
    content = read_metadata(path)
    if content["patch_size"] != patch_size:
        raise BenexpError(
            f"{path} takes patches of {content['patch_size']} px: "
            f"set chunking.patch_size={content['patch_size']} or export it again"
        )
    return ModelSpec(
        name=content["name"],
        architecture=content["architecture"],
        bands=tuple(content["bands"]),
        means=tuple(content["means"]),
        stds=tuple(content["stds"]),
        patch_size=patch_size,
        classes=tuple(content["classes"]),
        weights="onnx",
        source=f"{path.name}, exported from {content['source']}",
        revision=content["revision"],
        weights_hash=sha256(path),
        path=path,
        trained=content["trained"],
        precision=content["precision"],
    )
