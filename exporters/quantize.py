"""From fp32 to int8: the ranges of activations are measured on patches, weights and activations take 8 bits."""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benexp.core.errors import BenexpError
from benexp.models.metadata import to_metadata
from benexp.models.spec import ModelSpec
from exporters.answers import onnx_answer, reference_answer, reference_name
from exporters.parity import INT8_DECIDES, Patches, export_checked, in_two_sizes, trial_patches
from exporters.ranges import RangePatches
from exporters.recipe import Recipe

if TYPE_CHECKING:
    import openvino

BATCH = 8
"""Patches at once while ranges are measured: bounds the memory."""
FEW = 32
"""Ranges from fewer real patches are shaky."""
OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "AveragePool")
"""The operators that ONNX Runtime gets at int8. Norms, softmax and the like are cheap, and 8 bits hurt them."""


log = logging.getLogger("benexp")


def for_ranges(spec: ModelSpec, real: Patches) -> tuple[Patches, Patches]:
    """Patches to measure ranges on, and the patches of `real` that are kept out of it, to check on: every fourth.

    Warns where they are few. Constant and random patches widen the ranges a little beyond what a sample of a tile
    shows: its brightest and darkest places are seldom in it.
    """
    if len(real) < FEW:
        log.warning(
            "int8 is quantised on %d patches, and ranges from fewer than %d are shaky: name more or larger products",
            len(real),
            FEW,
        )
    kinds = trial_patches(spec)
    seen = np.delete(real, np.s_[::4], axis=0)
    return np.concatenate([seen, kinds["constant"], kinds["random"]]), real[::4]


def quantised_on(ranges: RangePatches, real: Patches) -> str:
    """For records: the patches that `ranges` gave, and what `for_ranges` makes of them."""
    held_out = len(real[::4])
    return f"{ranges.source}: {len(real)} found, {len(real) - held_out} for ranges, {held_out} held out to check on"


def int8_hint(spec: ModelSpec) -> str:
    """The remedy where int8 differs too much from the model."""
    if not spec.trained:
        return "its weights are random, which int8 does not suit: for a speed run set export.tolerance.int8=1"
    return "use fp32, measure ranges on more patches (quantization.patches), or allow more with export.tolerance.int8"


def quantize_openvino(model: "openvino.Model", patches: Patches) -> "openvino.Model":
    """`model` at int8, its ranges measured on `patches` [n, bands, p, p] in model DN. Quiet; the same every time."""
    # nncf would report its use to its makers.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise BenexpError(f"int8 on OpenVINO needs {error.name}: pip install 'benexp[openvino]'") from error
    with _quiet():
        quantized: openvino.Model = nncf.quantize(
            model,
            nncf.Dataset([patches[i : i + 1] for i in range(len(patches))]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if _has_attention(model) else None,
            subset_size=len(patches),
            # By default nncf averages the patches' extremes, which cuts off the brighter half of them.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
    return quantized


def _has_attention(model: "openvino.Model") -> bool:
    return any(node.get_type_name() in ("Softmax", "ScaledDotProductAttention") for node in model.get_ops())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without nncf's log, and its progress bars, which rich draws on its global console."""
    import nncf
    import rich

    console, level = rich.get_console(), nncf.nncf_logger.level
    before, console.quiet = console.quiet, True
    nncf.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = before
        nncf.set_log_level(level)


def quantize_onnx(spec: ModelSpec, source: Path, path: Path, recipe: Recipe) -> dict[str, Any]:
    """Quantise `source`, the fp32 .onnx file of `spec`, to `path`; the parity report. Needs no torch if spec has none.

    Ranges are measured on the recipe's `ranges`. Normalisation, the last layer and the sigmoid stay fp32.

    The file appears under its name once it agrees with the model on the kinds of patches that decide, BenexpError
    where it does not; how far it is off on the others is in the report, too.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise BenexpError(f"int8 on ONNX Runtime needs {error.name}: pip install 'benexp[cpu]'") from error
    assert recipe.ranges is not None
    ranges, held_out = for_ranges(spec, real := recipe.ranges.read())
    patches = quantised_on(recipe.ranges, real)
    properties = to_metadata(spec, "int8") | {"benexp.quantization": json.dumps(patches)}
    return export_checked(
        path,
        lambda made: _write(source, made, ranges, properties),
        lambda made: in_two_sizes(onnx_answer(made)),
        what=f"the ONNX export of {spec.name} at int8",
        reference=reference_answer(spec),
        patches=trial_patches(spec, held_out),
        tolerance=recipe.allowed,
        about={"reference": reference_name(spec), "precision": "int8", "quantization": patches},
        hint=int8_hint(spec),
        decides=INT8_DECIDES,
    )


def _write(source: Path, path: Path, patches: Patches, properties: dict[str, str]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Not beside `path`: what lies there is kept.
    with tempfile.TemporaryDirectory() as scratch:
        prepared, made = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        # ONNX's own shape inference will do; the symbolic one needs another package.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        head = [node.name for node in nodes if node.op_type in ("Gemm", "MatMul")][-1:]
        quantize_static(
            prepared,
            made,
            _Reader(patches),
            quant_format=QuantFormat.QDQ,
            # The extremes: percentiles and entropy were no better on the demo model and a resnet, and keep whatever
            # passes through the network in memory.
            calibrate_method=CalibrationMethod.MinMax,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Weights of 7 bits: with 8, sums overflow on CPUs without VNNI, where they would do five times the harm.
            reduce_range=True,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=head,
        )
        model = onnx.load(made)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)


class _Reader:
    """Feeds `patches` to ONNX Runtime's calibration, a batch at a time."""

    def __init__(self, patches: Patches) -> None:
        self._batches = iter([patches[i : i + BATCH] for i in range(0, len(patches), BATCH)])

    def get_next(self) -> dict[str, Patches] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"patches": batch}
