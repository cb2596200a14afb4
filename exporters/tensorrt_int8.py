"""From an .onnx file to its int8 form for TensorRT, which differs from ONNX Runtime's.

TensorRT takes no zero points and no integer biases, and runs a convolution, the addition after it and the activation
after that as one kernel of int8 where the skip connection is of 8 bits, too. What is not quantised stays of the type of
the file: made of an fp16 file, nothing between the kernels is fp32.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benexp.core.errors import BenexpError
from benexp.models.metadata import to_metadata
from benexp.models.spec import ModelSpec
from exporters.answers import onnx_answer, reference_answer, reference_name
from exporters.parity import INT8_DECIDES, Patches, export_checked, in_two_sizes, trial_patches
from exporters.quantize import for_ranges, int8_hint, quantised_on
from exporters.recipe import Recipe

if TYPE_CHECKING:
    import onnx

OPSET = 19
"""The first at which scales may be fp16."""
OPERATORS = ["Conv", "Gemm", "MatMul"]
UNDOES = frozenset(("WeightBiasQuantization",))
"""The change of ONNX Runtime's own that would make integers of the biases: with scales of fp16, wrong ones."""


def quantize_for_tensorrt(spec: ModelSpec, source: Path, path: Path, recipe: Recipe) -> dict[str, Any]:
    """Quantise the file `source`, of fp16 or fp32, to int8 as TensorRT takes it; the parity report.

    Checked on ONNX Runtime; BenexpError, and no file, where it does not agree with the model.
    """
    assert recipe.ranges is not None
    ranges, held_out = for_ranges(spec, real := recipe.ranges.read())
    return export_checked(
        path,
        lambda made: _write(source, made, ranges, to_metadata(spec, "int8")),
        lambda made: in_two_sizes(onnx_answer(made, UNDOES)),
        what=f"the int8 form of {spec.name} for TensorRT",
        reference=reference_answer(spec),
        patches=trial_patches(spec, held_out),
        tolerance=recipe.allowed,
        decides=INT8_DECIDES,
        about={
            "reference": reference_name(spec),
            "precision": "int8",
            "quantization": quantised_on(recipe.ranges, real),
        },
        hint=int8_hint(spec),
    )


def _write(source: Path, made: Path, patches: Patches, properties: dict[str, str]) -> None:
    """Signed 8 bits around zero for what enters convolutions, matrix products and, on one side, additions."""
    try:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quant_pre_process,
            quantize_static,
        )
    except ImportError as error:
        raise BenexpError(f"int8 for TensorRT needs {error.name}: pip install 'benexp[torch,cpu]'") from error

    class OneByOne(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Patches] = iter(patches)

        def get_next(self) -> dict[str, Patches] | None:
            patch = next(self._left, None)
            return None if patch is None else {"patches": patch[None]}

    prepared, raised = made.with_suffix(".prepared.onnx"), made.with_suffix(".raised.onnx")
    model = onnx.load(source)
    if any(weights.data_type == onnx.TensorProto.FLOAT16 for weights in model.graph.initializer):
        model = onnx.version_converter.convert_version(model, OPSET)
    onnx.save(model, raised)
    # Shapes only: what ONNX Runtime fuses for itself TensorRT would not know.
    quant_pre_process(raised, prepared, skip_optimization=True, skip_symbolic_shape=True)
    additions = [node for node in onnx.load(prepared).graph.node if node.op_type == "Add"]
    skips = _skips(onnx.load(prepared))
    operators = [*OPERATORS, "Add"]
    quantize_static(
        prepared,
        made,
        OneByOne(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=operators,
        nodes_to_exclude=[node.name for node in additions if node.name not in skips],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # Weights stay as they are in the file: older TensorRT reads no int8 ones.
            "AddQDQPairToWeight": True,
            # A pair between a convolution and its activation would keep TensorRT from fusing them.
            "OpTypesToExcludeOutputQuantization": operators,
        },
    )
    prepared.unlink()
    raised.unlink()
    model = onnx.load(made)
    _free_convolutions(model, skips)
    _scale_weights(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, made)


def _skips(model: "onnx.ModelProto") -> dict[str, str]:
    """The additions that end a skip connection, by name, each with the convolution's output that goes into it alone."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    uses = [name for node in model.graph.node for name in node.input]
    found: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.input if node.op_type == "Add" else ():
            if name in by_output and by_output[name].op_type == "Conv" and uses.count(name) == 1:
                found.setdefault(node.name, name)
    return found


def _free_convolutions(model: "onnx.ModelProto", skips: dict[str, str]) -> None:
    """Take the pair away between a convolution and the addition after it, which would keep them from being one."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    for node in list(model.graph.node):
        for place, name in enumerate(node.input if node.name in skips else ()):
            back = by_output.get(name)
            if back is None or back.op_type != "DequantizeLinear":
                continue
            there = by_output[back.input[0]]
            if there.input[0] == skips[node.name]:
                node.input[place] = there.input[0]
                model.graph.node.remove(back)
                model.graph.node.remove(there)


def _scale_weights(model: "onnx.ModelProto") -> None:
    """Give every channel of weights the scale of its largest one.

    ONNX Runtime takes 1 in place of scales below fp16's normal numbers, and so loses channels of small weights.
    """
    from onnx import numpy_helper

    constants = {weights.name: weights for weights in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            continue
        weights = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
        scale = numpy_helper.to_array(constants[node.input[1]])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
        others = tuple(index for index in range(weights.ndim) if index != axis) if scale.ndim else None
        largest = np.abs(weights).max(axis=others) / 127
        least = np.finfo(scale.dtype).smallest_subnormal
        right = np.maximum(largest.astype(scale.dtype), least).reshape(scale.shape)
        constants[node.input[1]].CopyFrom(numpy_helper.from_array(right, node.input[1]))
