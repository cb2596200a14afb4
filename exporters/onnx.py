"""From a checkpoint to one .onnx file: patches in model DN in, class probabilities out."""

import hashlib
import json
import logging
import re
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benexp import cores
from benexp.cache import cache_folder
from benexp.errors import BenexpError
from benexp.models.metadata import to_metadata
from benexp.models.spec import ModelSpec
from benexp.version import __version__
from exporters.parity import Answer, compare, trial_patches

if TYPE_CHECKING:
    from benexp.models.classifier import Classifier

log = logging.getLogger("benexp")

OPSET = 18
TOLERANCES = {"fp32": 1e-4}
"""The precisions on offer, and how far their probabilities may be from torch's fp32."""

_RECIPE = 1
# Counts changes of what this file exports, so that no older file is taken for it.


def export_onnx(spec: ModelSpec, path: Path, *, precision: str = "fp32") -> dict[str, Any]:
    """Export the model of `spec` to `path` and return the parity report, which is also written to `<stem>.parity.json`.

    Input `patches` [n, bands, p, p] float32 in model DN, output `probabilities` [n, classes] float32, n free.
    Normalisation, sigmoid and weights are inside; metadata_props say all that `model.weights=onnx` needs.

    The file appears under its name once it agrees with torch; BenexpError, and no file, where it does not.
    """
    if precision not in TOLERANCES:
        raise BenexpError(f"export to ONNX at {precision}: takes {', '.join(TOLERANCES)}")
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

    classifier = load_classifier(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own, so that two processes exporting at once write to different files.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        made = Path(scratch) / path.name
        _write(classifier, spec, made, to_metadata(spec, precision))
        report = compare(_torch_answer(classifier), _onnx_answer(made), trial_patches(spec), TOLERANCES[precision])
        if not report["passed"]:
            worst = max(report["kinds"], key=lambda kind: report["kinds"][kind]["max_abs_diff"])
            raise BenexpError(
                f"the ONNX export of {spec.name} differs from torch by {report['kinds'][worst]['max_abs_diff']:.1e} on "
                f"{worst} patches (allowed: {TOLERANCES[precision]:.0e}) and was not kept: use backend=torch"
            )
        parity = made.with_suffix(".parity.json")
        parity.write_text(json.dumps({"precision": precision, **report}, indent=2) + "\n")
        parity.replace(path.with_suffix(".parity.json"))
        made.replace(path)
    return report


def cached_onnx(spec: ModelSpec, *, precision: str = "fp32") -> Path:
    """The exported file of `spec` in the cache, made where it is not there yet.

    A file is reused for the same weights, bands, statistics, patch size, precision and versions of torch, the exporter
    and benexp; where torch is not installed, one that other versions of torch exported does, too.
    """
    if spec.weights == "onnx":
        return spec.path
    model = _digest(
        spec.weights_hash, spec.bands, spec.means, spec.stds, spec.patch_size, precision, _RECIPE, __version__
    )
    tools = _digest(*(_version(package) for package in ("torch", "timm", "onnx", "onnxscript")))
    folder = cache_folder() / "onnx"
    path = folder / f"{_plain(spec.name)}-{model}-{tools}.onnx"
    if path.is_file():
        return path
    try:
        import torch  # noqa: F401
    except ImportError as error:
        if others := sorted(folder.glob(f"*-{model}-*.onnx")):
            return others[0]
        raise BenexpError(
            f"{spec.name} was not exported to ONNX yet, which needs torch: pip install 'benexp[torch]', "
            f"or use an exported file with model=onnx model.path=FILE"
        ) from error
    log.info("exporting %s to ONNX and checking it against torch, once", spec.name)
    export_onnx(spec, path, precision=precision)
    return path


def _write(classifier: "Classifier", spec: ModelSpec, path: Path, properties: dict[str, str]) -> None:
    import torch

    # Two patches: an example of one would be taken for a batch that is always one.
    example = torch.zeros(2, len(spec.bands), spec.patch_size, spec.patch_size)
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
            dynamic_shapes={"patches": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(properties)
    program.save(path, external_data=False)


def _torch_answer(classifier: "Classifier") -> Answer:
    import torch

    def answer(patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return classifier(torch.from_numpy(patches)).numpy()  # type: ignore[no-any-return]

    return answer


def _onnx_answer(path: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores.available()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return session.run(["probabilities"], {"patches": patches})[0]  # type: ignore[no-any-return]

    return answer


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name)
