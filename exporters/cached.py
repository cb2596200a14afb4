"""Artefacts in the cache: made and checked when a backend first needs them."""

import hashlib
import json
import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from benexp.backends.tensorrt import WORKSPACE_GB
from benexp.cache import cache_folder
from benexp.errors import BenexpError
from benexp.models.spec import ModelSpec
from benexp.version import __version__
from exporters.calibration import Calibration
from exporters.parity import TOLERANCES

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
    workspace_gb: float = WORKSPACE_GB,
) -> Path:
    """The artefact of `spec` in the cache, made where it is not there yet. int8 needs `calibration`.

    A file is reused for the same weights, bands, statistics, patch size, precision, batch, tolerance, calibration and
    versions of benexp and the tools that made it; an .onnx file that other versions of torch exported does, too, where
    torch is not installed. A TensorRT engine is for the same GPU and workspace (GiB), too.

    Raises BenexpError where the tools are missing, the artefact does not agree with the model, or an exported file of
    another precision is all there is.
    """
    if _is_openvino(spec):
        return _openvino_file(spec, kind, precision)
    is_onnx = SUFFIXES[kind] == ".onnx"
    if spec.weights == "onnx" and is_onnx and spec.precision == precision:
        return spec.path
    if spec.weights == "onnx" and spec.precision not in ("fp32", precision):
        raise BenexpError(f"{spec.path} holds {spec.precision}: set backend.precision={spec.precision}")
    if precision == "int8" and spec.precision != "int8" and calibration is None:
        raise BenexpError(f"{spec.name} at int8 needs patches to calibrate on: name tile_folder= or input_dir=")
    if is_onnx and spec.weights == "onnx" and precision != "int8":
        raise BenexpError(
            f"{spec.path} holds fp32: set backend.precision=fp32, or export {precision} from a checkpoint"
        )
    folder = cache_folder() / kind
    path = folder / f"{_name(spec, kind, precision, batch, tolerance, calibration, workspace_gb)}{SUFFIXES[kind]}"
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
    make(
        spec,
        kind,
        path,
        precision=precision,
        batch=batch,
        tolerance=tolerance,
        calibration=calibration,
        workspace_gb=workspace_gb,
    )
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
    workspace_gb: float = WORKSPACE_GB,
) -> dict[str, Any]:
    """Make the artefact under a name of the caller's; the parity report. Steps on the way are taken from the cache."""
    if _is_openvino(spec):
        raise BenexpError(f"{spec.path} is in OpenVINO's format: other files are made of checkpoints and .onnx files")
    # The exporter to OpenVINO reads them itself.
    real = calibration.read() if calibration and kind != "openvino" else None
    if kind == "onnx" and precision != "int8":
        from exporters.onnx import export_onnx

        return export_onnx(spec, path, precision=precision, batch=batch, tolerance=tolerance, real=real)
    if kind == "tensorrt":
        from exporters.tensorrt import export_tensorrt

        if batch is None:
            raise BenexpError("a TensorRT engine is built for one batch size: set export.batch")
        return export_tensorrt(
            spec,
            typed_source(spec, precision, tolerance=tolerance, calibration=calibration),
            path,
            precision=precision,
            batch=batch,
            tolerance=tolerance,
            real=real,
            workspace_gb=workspace_gb,
        )
    if kind == "tensorrt-onnx" and precision != "int8":
        from exporters.tensorrt import export_unchecked

        return export_unchecked(spec, path, precision)
    source = spec.path if spec.weights == "onnx" else cached(spec, "onnx")
    if kind == "onnx":
        from exporters.quantize import quantize_onnx

        assert calibration is not None and real is not None
        return quantize_onnx(spec, source, path, real, calibration.source, tolerance=tolerance)
    if kind == "openvino":
        from exporters.openvino import export_openvino

        return export_openvino(spec, source, path, precision=precision, tolerance=tolerance, calibration=calibration)
    from exporters.tensorrt import quantize_for_tensorrt

    assert real is not None
    return quantize_for_tensorrt(spec, source, path, real, tolerance=tolerance)


def typed_source(
    spec: ModelSpec, precision: str, *, tolerance: float | None = None, calibration: Calibration | None = None
) -> Path:
    """The .onnx file that TensorRT builds an engine of `precision` from, in the cache, or the user's own."""
    kind: Kind = "tensorrt-onnx" if precision in ("bf16", "int8") else "onnx"
    return cached(spec, kind, precision=precision, tolerance=tolerance, calibration=calibration)


def _name(
    spec: ModelSpec,
    kind: Kind,
    precision: str,
    batch: int | None,
    tolerance: float | None,
    calibration: Calibration | None,
    workspace_gb: float,
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
        TOLERANCES[precision] if tolerance is None else tolerance,
        calibration.key if calibration and precision == "int8" else None,
        _RECIPE,
        __version__,
    )
    tools: list[Any] = [_version(package) for package in TOOLS[kind]]
    if kind == "onnx" and precision == "int8":
        tools.append(_version("onnxruntime"))
    if kind == "tensorrt":
        from exporters.tensorrt import engine_key

        # An engine runs on the kind of GPU that it was built on.
        tools += [*engine_key(), float(workspace_gb)]
    plain = re.sub(r"[^\w.]+", "_", spec.name)
    return f"{plain}-{precision}-{what}-{_digest(*tools)}"


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
