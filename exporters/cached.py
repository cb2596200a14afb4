"""Artefacts in the cache: made and checked when a backend first needs them."""

import hashlib
import json
import logging
import re
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from benexp.core.cache import cache_folder, remove_scratch
from benexp.core.errors import BenexpError
from benexp.core.installed import has_torch
from benexp.models.embedded_hash import is_sound
from benexp.models.spec import ModelSpec
from benexp.version import __version__
from exporters.recipe import Recipe

log = logging.getLogger("benexp")

Kind = Literal["onnx", "openvino", "tensorrt", "tensorrt-onnx"]
"""`tensorrt-onnx` is what engines are built from at bf16 and int8: ONNX Runtime's files do not serve there."""
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine", "tensorrt-onnx": ".onnx"}
TOOLS = {
    "onnx": ("torch", "timm", "onnx", "onnxscript"),
    "openvino": ("openvino", "nncf"),
    "tensorrt": (),
    "tensorrt-onnx": ("torch", "timm", "onnx", "onnxscript", "onnxruntime"),
}

FP32 = Recipe()
_RECIPE = 7
# Counts changes of what the exporters make, so that no older file is taken for it.


def cached(spec: ModelSpec, kind: Kind, recipe: Recipe = FP32) -> Path:
    """The artefact of `spec` in the cache, made where it is not there yet. int8 needs patches for its ranges.

    A file is reused for the same weights, bands, statistics, patch size, recipe and versions of benexp and the tools
    that made it; an .onnx file that other versions of torch exported does, too, where torch is not installed. A
    TensorRT engine is for the same GPU, too. A file that was damaged since is warned about and made anew.

    Raises BenexpError where the tools are missing, the cache cannot be written to, the artefact does not agree with the
    model, or an exported file of another precision is all there is.
    """
    precision, is_onnx = recipe.precision, SUFFIXES[kind] == ".onnx"
    if _is_openvino(spec):
        return _openvino_file(spec, kind, precision)
    if spec.weights == "onnx" and kind == "tensorrt-onnx" and spec.precision == "int8":
        raise BenexpError(
            f"{spec.path} holds int8 in a form that TensorRT does not take: name the fp32 file or the checkpoint"
        )
    if spec.weights == "onnx" and is_onnx and spec.precision == precision:
        return spec.path
    if spec.weights == "onnx" and spec.precision not in ("fp32", precision):
        runs = "backend=onnxruntime-cuda " if spec.precision == "fp16" else ""
        raise BenexpError(f"{spec.path} holds {spec.precision}: set {runs}backend.precision={spec.precision}")
    if precision == "int8" and spec.precision != "int8" and recipe.ranges is None:
        raise BenexpError(f"{spec.name} at int8 needs patches to measure ranges on: name tile_folder= or input_dir=")
    if is_onnx and spec.weights == "onnx" and precision != "int8":
        raise BenexpError(
            f"{spec.path} holds fp32: set backend.precision=fp32, or export {precision} from a checkpoint"
        )
    folder = cache_folder() / kind
    path = folder / f"{_name(spec, kind, recipe)}{SUFFIXES[kind]}"
    if path.is_file():
        if is_sound(path):
            return path
        log.warning("%s is damaged: making it anew", path)
    if kind == "onnx" and precision != "int8" and not has_torch():
        model = path.name.rpartition("-")[0]
        for other in sorted(folder.glob(f"{model}-*{SUFFIXES[kind]}")):
            if is_sound(other):
                return other
        raise BenexpError(
            f"{spec.name} was not exported to ONNX at {precision} yet, which needs torch: "
            f"pip install 'benexp[torch]', or use an exported file with model=onnx model.path=FILE"
        )
    refuse_fixed(spec)
    _prepare(folder)
    checked = "it is checked once an engine is built of it" if _is_unchecked(kind, precision) else "checking it, once"
    log.info("making %s of %s at %s; %s", kind, spec.name, precision, checked)
    make(spec, kind, path, recipe)
    return path


def make(spec: ModelSpec, kind: Kind, path: Path, recipe: Recipe = FP32) -> dict[str, Any]:
    """Make the artefact under a name of the caller's; the parity report. Steps on the way are taken from the cache."""
    if _is_openvino(spec):
        raise BenexpError(f"{spec.path} is in OpenVINO's format: other files are made of checkpoints and .onnx files")
    refuse_fixed(spec)
    if kind == "tensorrt":
        from exporters.tensorrt import export_tensorrt

        return export_tensorrt(spec, typed_source(spec, recipe), path, recipe)
    if _is_unchecked(kind, recipe.precision):
        from exporters.tensorrt import export_unchecked

        return export_unchecked(spec, path, recipe.precision)
    if kind == "onnx" and recipe.precision != "int8":
        from exporters.onnx import export_onnx

        real = recipe.ranges.read() if recipe.ranges else None
        return export_onnx(
            spec, path, precision=recipe.precision, batch=recipe.batch, tolerance=recipe.tolerance, real=real
        )
    # Who allows more at fp32 allows it on the way there, too.
    on_the_way = Recipe(tolerance=recipe.tolerance if recipe.precision == "fp32" else None)
    if kind == "tensorrt-onnx":
        # What is not of 8 bits is then fp16.
        on_the_way = Recipe("fp16", tolerance=recipe.tolerance)
    source = spec.path if spec.weights == "onnx" else cached(spec, "onnx", on_the_way)
    if kind == "openvino":
        from exporters.openvino import export_openvino

        return export_openvino(spec, source, path, recipe)
    if kind == "onnx":
        from exporters.quantize import quantize_onnx

        return quantize_onnx(spec, source, path, recipe)
    from exporters.tensorrt_int8 import quantize_for_tensorrt

    return quantize_for_tensorrt(spec, source, path, recipe)


def refuse_fixed(spec: ModelSpec) -> None:
    """Raise BenexpError where the model is a file for one batch size: nothing can be made of it."""
    if spec.batch:
        raise BenexpError(
            f"{spec.path} was exported for batches of {spec.batch}: export it for any batch (export.batch=null)"
        )


def typed_source(spec: ModelSpec, recipe: Recipe) -> Path:
    """The .onnx file that TensorRT builds an engine from, in the cache, or the user's own."""
    kind: Kind = "tensorrt-onnx" if recipe.precision in ("bf16", "int8") else "onnx"
    return cached(spec, kind, replace(recipe, batch=None))


def _is_unchecked(kind: Kind, precision: str) -> bool:
    """True where nothing but a GPU runs the file, so that only the engine that is built of it can be checked."""
    return kind == "tensorrt-onnx" and precision != "int8"


def _prepare(folder: Path) -> None:
    """Sweep away what processes that were killed have left in `folder`; BenexpError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenexpError(
            f"{folder}: cannot be written: {error.strerror or error}; set BENEXP_CACHE_DIR to a folder that can"
        ) from error
    remove_scratch(folder)


def _name(spec: ModelSpec, kind: Kind, recipe: Recipe) -> str:
    """`<model>-<precision>-<what it is>-<tools that made it>`."""
    what = _digest(
        spec.weights_hash,
        spec.bands,
        spec.means,
        spec.stds,
        spec.patch_size,
        recipe.precision,
        recipe.batch,
        recipe.allowed,
        recipe.ranges.key if recipe.ranges and recipe.precision == "int8" else None,
        _RECIPE,
        __version__,
    )
    tools: list[Any] = [_version(package) for package in TOOLS[kind]]
    if kind == "onnx" and recipe.precision == "int8":
        tools.append(_version("onnxruntime"))
    if kind == "tensorrt":
        from exporters.tensorrt import engine_key

        # An engine runs on the kind of GPU that it was built on.
        tools += [*engine_key(), float(recipe.workspace_gb)]
    plain = re.sub(r"[^\w.]+", "_", spec.name)
    return f"{plain}-{recipe.precision}-{what}-{_digest(*tools)}"


def _is_openvino(spec: ModelSpec) -> bool:
    return spec.weights == "onnx" and spec.path.suffix == SUFFIXES["openvino"]


def _openvino_file(spec: ModelSpec, kind: Kind, precision: str) -> Path:
    if kind != "openvino":
        raise BenexpError(f"{spec.path} is in OpenVINO's format: choose backend=openvino")
    if spec.precision != precision:
        raise BenexpError(
            f"{spec.path} holds {spec.precision}: set backend.precision={spec.precision}, or make {precision} of the "
            f"checkpoint or of an .onnx file"
        )
    return spec.path


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
