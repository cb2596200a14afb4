"""From a checkpoint to one .onnx file: patches in model DN in, class probabilities out."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.core.errors import BenexpError
from benexp.models.metadata import to_metadata
from benexp.models.spec import ModelSpec
from exporters.answers import onnx_answer, reference_name, torch_answer
from exporters.parity import TOLERANCES, Patches, export_checked, in_batches, in_two_sizes, trial_patches

if TYPE_CHECKING:
    from benexp.models.classifier import Classifier

OPSET = 18
PRECISIONS = ("fp32", "fp16")


def export_onnx(
    spec: ModelSpec,
    path: Path,
    *,
    precision: str = "fp32",
    batch: int | None = None,
    tolerance: float | None = None,
    real: Patches | None = None,
) -> dict[str, Any]:
    """Export the model of `spec` to `path` and return the parity report, which is also written to `<stem>.parity.json`.

    Input `patches` [n, bands, p, p] float32 in model DN, output `probabilities` [n, classes] float32; n is free, or
    `batch`. Normalisation, sigmoid and weights are inside; metadata_props say all that `model.weights=onnx` needs.
    At fp16 the network is of that type, normalisation and sigmoid stay fp32.

    The file appears under its name once it agrees with torch at fp32 on trial patches and on `real` ones; BenexpError,
    and no file, where it does not.
    """
    if precision not in PRECISIONS:
        raise BenexpError(
            f"export to ONNX at {precision}: takes {', '.join(PRECISIONS)}; ONNX Runtime has no bf16 convolutions at "
            f"opset {OPSET} to check a file with, OpenVINO and TensorRT run fp32 models at bf16 themselves"
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401

        from benexp.models.classifier import load_classifier
    except ImportError as error:
        raise BenexpError(
            f"exporting {spec.name} to ONNX needs {error.name}: pip install 'benexp[torch,cpu]', "
            f"or use an exported file with model=onnx model.path=FILE"
        ) from error

    def build(made: Path) -> None:
        reduced = load_classifier(spec, precision) if precision != "fp32" else classifier
        write_onnx(reduced, spec, made, to_metadata(spec, precision, batch), batch)

    def load(made: Path) -> Any:
        answer = onnx_answer(made)
        return in_batches(answer, batch) if batch else in_two_sizes(answer)

    classifier = load_classifier(spec)
    return export_checked(
        path,
        build,
        load,
        what=f"the ONNX export of {spec.name} at {precision}",
        reference=torch_answer(classifier),
        patches=trial_patches(spec, real),
        tolerance=TOLERANCES[precision] if tolerance is None else tolerance,
        about={"reference": reference_name(spec), "precision": precision, "opset": OPSET},
        hint="use backend=torch"
        if precision == "fp32"
        else f"use fp32, or allow more with export.tolerance.{precision}",
    )


def write_onnx(
    classifier: "Classifier", spec: ModelSpec, path: Path, properties: dict[str, str], batch: int | None
) -> None:
    """Write `classifier` to `path`, unchecked, for `batch` patches at once (None: any); `properties` go in with it."""
    import torch

    # Two patches where the batch is free: an example of one would be taken for a batch that is always one.
    example = torch.zeros(batch or 2, len(spec.bands), spec.patch_size, spec.patch_size)
    with warnings.catch_warnings():
        # torch warns about its own insides here; what matters is checked afterwards, on the file.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            classifier,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["patches"],
            output_names=["probabilities"],
            dynamic_shapes=None if batch else {"patches": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(properties)
    program.save(path, external_data=False)
