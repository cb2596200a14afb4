"""Artefacts in the cache: made and checked when a backend first needs them."""

import hashlib
import json
import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from benexp.cache import cache_folder
from benexp.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.version import __version__
from exporters.calibration import Calibration

log = logging.getLogger("benexp")

Kind = Literal["onnx", "openvino", "tensorrt"]
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine"}
TOOLS = {
    "onnx": ("torch", "timm", "onnx", "onnxscript"),
    "openvino": ("openvino", "nncf"),
    "tensorrt": ("tensorrt",),
}

_RECIPE = 2
# Counts changes of what the exporters make, so that no older file is taken for it.


def cached(
    spec: ModelSpec,
    kind: Kind,
    *,
    precision: str = "fp32",
    batch: int | None = None,
    tolerance: float | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """The artefact of `spec` in the cache, made where it is not there yet. int8 needs `calibration`.

    A file is reused for the same weights, bands, statistics, patch size, precision, batch, tolerance, calibration and
    versions of benexp and the tools that made it; an .onnx file that other versions of torch exported does, too, where
    torch is not installed.

    Raises BenexpError where the tools are missing, the artefact does not agree with the model, or an exported file of
    another precision is all there is.
    """
    if spec.weights == "onnx" and kind == "onnx" and spec.precision == precision:
        return spec.path
    if spec.weights == "onnx" and spec.precision not in ("fp32", precision):
        raise BenexpError(f"{spec.path} holds {spec.precision}: set backend.precision={spec.precision}")
    if precision == "int8" and spec.precision != "int8" and calibration is None:
        raise BenexpError(f"{spec.name} at int8 needs patches to calibrate on: name tile_folder= or input_dir=")
    if kind == "onnx" and spec.weights == "onnx" and precision != "int8":
        raise BenexpError(
            f"{spec.path} holds fp32: set backend.precision=fp32, or export {precision} from a checkpoint"
        )
    folder = cache_folder() / kind
    path = folder / f"{_name(spec, kind, precision, batch, tolerance, calibration)}{SUFFIXES[kind]}"
    if path.is_file():
        return path
    if kind == "onnx" and precision != "int8" and not _has_torch():
        model = path.name.rpartition("-")[0]
        if others := sorted(folder.glob(f"{model}-*{SUFFIXES[kind]}")):
            return others[0]
        raise BenexpError(
            f"{spec.name} was not exported to ONNX at {precision} yet, which needs torch: "
            f"pip install 'benexp[torch]', or use an exported file with model=onnx model.path=FILE"
        )
    log.info("making %s of %s at %s and checking it against the model, once", kind, spec.name, precision)
    make(spec, kind, path, precision=precision, batch=batch, tolerance=tolerance, calibration=calibration)
    return path


def make(
    spec: ModelSpec,
    kind: Kind,
    path: Path,
    *,
    precision: str = "fp32",
    batch: int | None = None,
    tolerance: float | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Make the artefact under a name of the caller's; the parity report. Steps on the way are taken from the cache."""
    real = calibration.read() if calibration else None
    if kind == "onnx" and precision != "int8":
        from exporters.onnx import export_onnx

        return export_onnx(spec, path, precision=precision, batch=batch, tolerance=tolerance, real=real)
    source = spec.path if spec.weights == "onnx" else cached(spec, "onnx")
    if kind == "onnx":
        from exporters.quantize import quantize_onnx

        assert calibration is not None and real is not None
        return quantize_onnx(spec, source, path, real, calibration.source, tolerance=tolerance)
    if kind == "openvino":
        from exporters.openvino import export_openvino

        return export_openvino(spec, source, path, precision=precision, tolerance=tolerance, calibration=calibration)
    from exporters.tensorrt import export_tensorrt

    if batch is None:
        raise BenexpError("a TensorRT engine is built for one batch size: set export.batch")
    return export_tensorrt(spec, source, path, precision=precision, batch=batch, tolerance=tolerance, real=real)


def _name(
    spec: ModelSpec,
    kind: Kind,
    precision: str,
    batch: int | None,
    tolerance: float | None,
    calibration: Calibration | None,
) -> str:
    """`<model>-<precision>-<what it is>-<tools that made it>`."""
    what = _digest(
        spec.weights_hash,
        spec.bands,
        spec.means,
        spec.stds,
        spec.patch_size,
        precision,
        batch,
        tolerance,
        calibration.key if calibration and precision == "int8" else None,
        _RECIPE,
        __version__,
    )
    tools: list[Any] = [_version(package) for package in TOOLS[kind]]
    if kind == "onnx" and precision == "int8":
        tools.append(_version("onnxruntime"))
    if kind == "tensorrt":
        from exporters.tensorrt import gpu_name

        # An engine runs on the kind of GPU that it was built on.
        tools.append(gpu_name())
    plain = re.sub(r"[^\w.]+", "_", spec.name)
    return f"{plain}-{precision}-{what}-{_digest(*tools)}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
