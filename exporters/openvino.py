"""From an .onnx file to OpenVINO's own format: an .xml file that says what it is, and its weights in a .bin."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benexp.core import cores
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import BIN_HASH
from benexp.models.metadata import to_metadata
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from exporters.answers import reference_answer, reference_name
from exporters.parity import INT8_DECIDES, Answer, Patches, export_checked, in_two_sizes, trial_patches
from exporters.quantize import for_ranges, int8_hint, quantised_on, quantize_openvino
from exporters.recipe import Recipe

if TYPE_CHECKING:
    import openvino

PRECISIONS = ("fp32", "int8")


def export_openvino(spec: ModelSpec, source: Path, path: Path, recipe: Recipe) -> dict[str, Any]:
    """Turn `source`, the .onnx file of `spec`, into `path` and the .bin beside it; the parity report.

    At int8 a file that is not int8 yet is quantised, with ranges measured on the recipe's patches. Weights are stored
    as they are.

    The files appear under their names once they agree with the model on trial patches and on the recipe's;
    BenexpError, and no file, where they do not.
    """
    precision, given = recipe.precision, recipe.ranges
    if precision not in PRECISIONS:
        raise BenexpError(
            f"export to OpenVINO at {precision}: takes {', '.join(PRECISIONS)}; backend=openvino runs fp32 files at "
            f"bf16 and fp16, too"
        )
    try:
        import openvino
    except ImportError as error:
        raise BenexpError(
            f"exporting {spec.name} to OpenVINO needs {error.name}: pip install 'benexp[openvino]'"
        ) from error
    real = given.read() if given else None
    ranges, patches = None, None
    if precision == "int8" and spec.precision != "int8":
        if real is None:
            raise BenexpError(
                f"{spec.name} at int8 needs patches to measure ranges on: name tile_folder= or input_dir="
            )
        assert given is not None
        patches = quantised_on(given, real)
        ranges, real = for_ranges(spec, real)

    def build(made: Path) -> None:
        model = openvino.Core().read_model(source)
        if ranges is not None:
            model = quantize_openvino(model, ranges)
        _save(model, made, to_metadata(spec, precision))

    return export_checked(
        path,
        build,
        lambda made: in_two_sizes(openvino_answer(made)),
        what=f"the OpenVINO export of {spec.name} at {precision}",
        reference=reference_answer(spec),
        patches=trial_patches(spec, real),
        tolerance=recipe.allowed,
        about={"reference": reference_name(spec), "precision": precision, "quantization": patches},
        decides=INT8_DECIDES if precision == "int8" else None,
        hint=int8_hint(spec) if precision == "int8" else "use another backend",
    )


def openvino_answer(path: Path) -> Answer:
    """An .xml file on OpenVINO's CPU device, computing at fp32 what is not quantised."""
    import openvino

    core = openvino.Core()
    # The files are about to move: nothing may keep them open.
    core.set_property({"ENABLE_MMAP": False})
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores.available()}
    compiled = core.compile_model(core.read_model(path), "CPU", options)

    def answer(patches: Patches) -> npt.NDArray[np.float32]:
        return compiled({"patches": patches})["probabilities"]  # type: ignore[no-any-return]

    return answer


def _save(model: "openvino.Model", path: Path, about: dict[str, str]) -> None:
    import openvino

    # What the .onnx file said of itself.
    if model.has_rt_info(["framework"]):
        del model.rt_info["framework"]
    for key, value in about.items():
        # By parts: OpenVINO nests names with dots.
        model.set_rt_info(value, key.split("."))
    # As they are: by default OpenVINO would halve the weights to fp16.
    openvino.save_model(model, path, compress_to_fp16=False)
    model.set_rt_info(sha256(path.with_suffix(".bin")), BIN_HASH.split("."))
    openvino.save_model(model, path, compress_to_fp16=False)
