"""From an .onnx file to a TensorRT engine, for one kind of GPU, one precision and one batch size.

The network is strongly typed, the one way that TensorRT 11 knows and that 10 recommends: precisions are those of the
.onnx file (half-precision weights, or QuantizeLinear nodes for int8), no flag chooses them.

Written against the documented API and the signatures of TensorRT 10 and 11, and tested on a stand-in that records
calls. Never run on a GPU yet.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benexp.core.cache import SCRATCH, cache_folder
from benexp.core.errors import BenexpError
from benexp.core.tensorrt import WORKSPACE_GB, Gpu, TensorrtEngine, failed, gpu_name, library, logger
from benexp.models.embedded_hash import BIN_HASH, embed_hash
from benexp.models.metadata import to_metadata
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from exporters.answers import reference_answer, reference_name
from exporters.parity import (
    ENGINE_DECIDES,
    INT8_DECIDES,
    Answer,
    Patches,
    export_checked,
    in_batches,
    trial_patches,
)
from exporters.recipe import Recipe

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FP32_PARTS = ("fp32", "int8")
"""Precisions whose files may hold convolutions at fp32: an int8 file where layers are not quantised."""


def engine_key() -> tuple[str, str]:
    """The key of an engine beside its model: TensorRT's version and the kind of GPU."""
    return library().__version__, gpu_name()


def export_tensorrt(
    spec: ModelSpec,
    source: Path,
    path: Path,
    recipe: Recipe,
) -> dict[str, Any]:
    """Build the engine of `source`, an .onnx file of the precision already, for torch's current GPU; the parity report.

    It takes `patches` [batch, bands, p, p] and gives `probabilities` [batch, classes], both float32: TensorRT has no
    uint16 input. `<stem>.json` beside it says what it is and what it was built for.

    The engine appears under its name once it agrees with the model on trial patches and on real ones; BenexpError, and
    no engine, where it does not, or where TensorRT or a GPU is missing.
    """
    precision, batch, workspace_gb = recipe.precision, recipe.batch, recipe.workspace_gb
    if precision not in PRECISIONS:
        raise BenexpError(f"export to TensorRT at {precision}: takes {', '.join(PRECISIONS)}")
    if batch is None:
        raise BenexpError("a TensorRT engine is built for one batch size: set export.batch")
    version = library().__version__
    gpu = Gpu()
    about = {
        **to_metadata(spec, precision, batch),
        "tensorrt": version,
        "gpu": gpu.name,
        "shape": [batch, len(spec.bands), spec.patch_size, spec.patch_size],
        "workspace_gb": workspace_gb,
    }

    def build(made: Path) -> None:
        with gpu.current():
            made.write_bytes(_plan(source, about["shape"], precision, workspace_gb, timing_cache(version, gpu.name)))
        said = {**about, BIN_HASH: sha256(made)}
        made.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")

    return export_checked(
        path,
        build,
        lambda made: in_batches(_engine_answer(made, gpu), batch),
        what=f"the TensorRT engine of {spec.name} at {precision}",
        reference=reference_answer(spec),
        patches=trial_patches(spec, recipe.ranges.read() if recipe.ranges else None),
        tolerance=recipe.allowed,
        decides={"fp32": None, "int8": INT8_DECIDES}.get(precision, ENGINE_DECIDES),
        about={
            "reference": reference_name(spec),
            "precision": precision,
            "batch": batch,
            "tensorrt": version,
            "gpu": gpu.name,
        },
        hint="use backend=torch backend.device=cuda"
        if precision == "fp32"
        else f"use fp32, or allow more with export.tolerance.{precision}",
    )


def export_unchecked(spec: ModelSpec, path: Path, precision: str) -> dict[str, Any]:
    """Write the checkpoint of `spec` at `precision` as .onnx for an engine to be built from; it is checked then.

    For bf16: nothing but a GPU runs its convolutions. Without torch, BenexpError.
    """
    try:
        from benexp.models.classifier import load_classifier
        from exporters.onnx import write_onnx
    except ImportError as error:
        raise BenexpError(f"exporting {spec.name} needs {error.name}: pip install 'benexp[torch]'") from error
    with _whole(path) as made:
        write_onnx(load_classifier(spec, precision), spec, made, to_metadata(spec, precision), None)
        if precision == "bf16":
            _round_folded_weights(made)
        embed_hash(made)
    return {"precision": precision}


def _round_folded_weights(path: Path) -> None:
    """Make bf16 of the weights that torch's exporter leaves at fp32 where it folds batch norms into them."""
    import ml_dtypes
    import onnx

    model = onnx.load(path)
    taken = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for weights in model.graph.initializer:
        if weights.name in taken and weights.data_type == onnx.TensorProto.FLOAT:
            rounded = onnx.numpy_helper.to_array(weights).astype(ml_dtypes.bfloat16)
            weights.CopyFrom(onnx.numpy_helper.from_array(rounded, weights.name))
    onnx.save(model, path)


def trtexec_command(
    spec: ModelSpec, source: Path, path: Path, precision: str, batch: int, workspace_gb: float = WORKSPACE_GB
) -> list[str]:
    """NVIDIA's command line tool doing by hand what `export_tensorrt` does, but for the check and the .json file.

    `source` is the .onnx file of `spec` at `precision`.
    """
    shape = "x".join(map(str, (batch, len(spec.bands), spec.patch_size, spec.patch_size)))
    return [
        "trtexec",
        f"--onnx={source}",
        f"--saveEngine={path}",
        "--stronglyTyped",
        *(["--noTF32"] if precision in FP32_PARTS else []),
        *(f"--{bound}Shapes=patches:{shape}" for bound in ("min", "opt", "max")),
        f"--memPoolSize=workspace:{round(workspace_gb * 1024)}",
        f"--timingCacheFile={path.with_suffix('.timing')}",
        "--skipInference",
    ]


def timing_cache(version: str, gpu: str) -> Path:
    """The file of TensorRT's measurements of kernels, kept so that the next engine for this GPU is built faster."""
    plain = re.sub(r"[^\w.]+", "_", f"{gpu}-{version}")
    return cache_folder() / "tensorrt" / f"{plain}.timing"


def _plan(source: Path, shape: list[int], precision: str, workspace_gb: float, timings: Path) -> Any:
    """The bytes of an engine. Raises BenexpError with TensorRT's reason, OutOfMemoryError where that is memory."""
    trt = library()
    logger().errors.clear()
    builder = trt.Builder(logger())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger())
    if not parser.parse(source.read_bytes()):
        said = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)) or "it gave no reason"
        raise BenexpError(f"TensorRT {trt.__version__} cannot read {source}: {' '.join(said.split())}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_gb * 2**30))
    if precision in FP32_PARTS:
        # Rounds convolutions to 10 bits by default, and would still be called fp32.
        config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    profile.set_shape("patches", tuple(shape), tuple(shape), tuple(shape))
    if config.add_optimization_profile(profile) < 0:
        raise failed(f"TensorRT cannot build {source} for patches {shape}")
    saved = timings.read_bytes() if timings.is_file() else b""
    cache = config.create_timing_cache(saved)
    if cache is None or not config.set_timing_cache(cache, False):
        # Damaged, or measured elsewhere: measured again.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise failed(f"TensorRT {trt.__version__} cannot build {source} at {precision} for patches {shape}")
    with _whole(timings) as made:
        made.write_bytes(config.get_timing_cache().serialize())
    return plan


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to write that then becomes `path`, also where two processes do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as scratch:
        made = Path(scratch) / path.name
        yield made
        made.replace(path)


def _engine_answer(path: Path, gpu: Gpu) -> Answer:
    import torch

    engine = TensorrtEngine(path, gpu)

    def answer(patches: Patches) -> Any:
        with torch.inference_mode(), gpu.current():
            return engine(torch.from_numpy(patches).to(gpu.device)).cpu().numpy()

    return answer
