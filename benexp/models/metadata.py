"""The metadata of an exported file, .onnx or .xml: enough to use it as a model on its own. No torch is needed."""

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from benexp.core.errors import BenexpError, one_line
from benexp.core.installed import import_onnxruntime
from benexp.models.embedded_hash import BIN_HASH, HASH_KEY, NO_HASH, embedded_hash, has_its_weights
from benexp.models.external_data import check_whole
from benexp.models.spec import ModelSpec
from benexp.version import __version__

_FIELDS = ("name", "architecture", "bands", "means", "stds", "patch_size", "classes", "weights", "source", "revision")
_TEXT = ("name", "architecture", "weights", "source", "precision")
_KINDS = (
    *((field, str, str) for field in _TEXT),
    *((field, list, str) for field in ("bands", "classes")),
    *((field, list, int | float) for field in ("means", "stds")),
    ("patch_size", int, int),
    ("trained", bool, bool),
    ("revision", str | None, str),
    ("batch", int | None, int),
)
# What each is, and what a list holds.


def to_metadata(spec: ModelSpec, precision: str, batch: int | None = None) -> dict[str, str]:
    """The metadata_props of an export of `spec` for `batch` patches at once (None: any): JSON, but for the hash."""
    content = {field: getattr(spec, field) for field in _FIELDS}
    content |= {
        "trained": spec.trained,
        "weights_hash": spec.weights_hash,
        "precision": precision,
        "batch": batch,
        # How 20 m bands come onto the 10 m grid of the patches: not the file's work, but what it expects.
        "upsampling": "nearest",
        "benexp_version": __version__,
    }
    return {f"benexp.{key}": json.dumps(value) for key, value in content.items()} | {HASH_KEY: NO_HASH}


def read_metadata(path: Path) -> dict[str, Any]:
    """The content that `to_metadata` wrote, and the file's `embedded_hash`.

    Raises BenexpError if `path` is in neither format, damaged, or not exported by benexp.
    """
    # First: what engines do with damaged files is anyone's guess.
    own_hash = embedded_hash(path)
    if own_hash is None:
        raise BenexpError(
            f"{path} is damaged or was changed since benexp exported it (or benexp did not): export it again"
        )
    if path.suffix != ".xml":
        check_whole(path)
    properties = _of_openvino(path) if path.suffix == ".xml" else _of_onnx(path)
    try:
        content = {
            key.removeprefix("benexp."): json.loads(value)
            for key, value in properties.items()
            if key.startswith("benexp.") and key not in (HASH_KEY, BIN_HASH)
        }
    except (ValueError, RecursionError) as error:
        raise BenexpError(f"{path} says of itself what cannot be read: {one_line(error)}") from error
    if missing := [field for field in _FIELDS if field not in content]:
        raise BenexpError(f"{path} does not say its {missing[0]}: model.path takes a file that benexp exported")
    for field, kind, of in _KINDS:
        value = content.get(field)
        if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(one, of) for one in value)):
            raise BenexpError(f"{path} says {field} that cannot be: model.path takes a file that benexp exported")
    if not len(content["bands"]) == len(content["means"]) == len(content["stds"]):
        raise BenexpError(f"{path} has means and stds of other bands: model.path takes a file that benexp exported")
    return content | {"embedded_hash": own_hash}


def _of_onnx(path: Path) -> dict[str, str]:
    onnxruntime = import_onnxruntime(f"reading {path}")
    options = onnxruntime.SessionOptions()
    # Only the metadata is wanted: optimising the graph takes most of the loading time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions share no base class of their own.
    except Exception as error:
        if type(error).__name__ == "NotImplemented":
            raise BenexpError(
                f"{path} holds what ONNX Runtime cannot run, as bf16 files that TensorRT engines are built from do: "
                f"model.path takes files of fp32, fp16 or int8"
            ) from error
        raise BenexpError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from error
    properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return properties


def _of_openvino(path: Path) -> dict[str, str]:
    """The properties in an .xml file whose .bin is beside it; needs no OpenVINO."""
    try:
        document = parse(path)
    except (ParseError, DefusedXmlException) as error:
        raise BenexpError(f"{path} cannot be read as an OpenVINO model: {one_line(error)}") from error
    properties = {f"benexp.{entry.tag}": entry.get("value", "") for entry in document.iterfind("rt_info/benexp/*")}
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise BenexpError(f"{weights} is missing: an OpenVINO model is two files, keep them beside each other")
    if not has_its_weights(path):
        raise BenexpError(f"{weights} is damaged or belongs to another model than {path.name}: copy both again")
    return properties


def spec_of_export(path: Path, patch_size: int) -> ModelSpec:
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
        # Of both files where there are two: an .xml names the hash of its .bin.
        weights_hash=content["embedded_hash"],
        path=path,
        trained=content["trained"],
        precision=content["precision"],
        batch=content["batch"],
    )
