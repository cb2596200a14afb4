"""From a model to a checked file for another engine: what `benexp task=export` does."""

import dataclasses
import json
import logging
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benexp.config.command import command
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.core.files import replacing
from benexp.measure.environment import environment
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.runs.inputs import output_folder, products

if TYPE_CHECKING:
    from exporters.cached import Kind
    from exporters.ranges import RangePatches
    from exporters.recipe import Recipe

log = logging.getLogger("benexp")

PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
}
"""The precisions that a file of each format can hold."""
INSTEAD = {
    "onnx": "nothing runs bf16 convolutions of ONNX, to check them; OpenVINO and TensorRT make bf16 of fp32 themselves",
    "openvino": "backend=openvino runs fp32 files at bf16 and fp16, too",
    "tensorrt": "",
}


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Make the artefact that `config.export` asks for in `output_folder`; its record, in a list of one.

    Raises BenexpError, and leaves no artefact, where it cannot be made or differs too much from the model.
    """
    _check(config)
    named = bool(config.tile_folder or config.input_dir or config.demo.size)
    found = products(config) if named else []
    asked = config.export
    if config.dry_run:
        name = _resolve(config).name if config.model.weights == "onnx" else config.model.name
        path = _path(config, name)
        patches = f"{config.quantization.patches} patches of the products named and on " if found else ""
        say(
            f"would make {path} from {name} ({config.model.weights}) at {asked.precision} and check it on {patches}"
            f"made-up patches; it may differ by {asked.tolerance[asked.precision]:g}"
        )
        return [{"path": str(path), "files": []}]
    from exporters.cached import refuse_fixed

    spec = _resolve(config)
    if spec.precision not in ("fp32", asked.precision):
        raise BenexpError(f"{spec.path} holds {spec.precision}: artefacts are made of checkpoints or fp32 files")
    if spec.weights == "onnx" and asked.format == "onnx" and spec.precision == asked.precision:
        raise BenexpError(f"{spec.path} is {spec.precision} already")
    refuse_fixed(spec)
    with output_folder(Path(config.output_folder)):
        return [_export(config, overrides, spec, _range_patches(found, config, spec), say)]


def _check(config: Config) -> None:
    """Refuse what cannot be made, before anything is fetched, read or computed."""
    asked = config.export
    if asked.precision not in PRECISIONS[asked.format]:
        raise BenexpError(
            f"export.precision={asked.precision}: export.format={asked.format} takes "
            f"{', '.join(PRECISIONS[asked.format])}; {INSTEAD[asked.format]}"
        )
    if asked.format == "tensorrt" and not asked.batch:
        raise BenexpError("export.batch is not set: a TensorRT engine is built for one batch size, such as 32")
    if asked.batch and (asked.format == "openvino" or (asked.format, asked.precision) == ("onnx", "int8")):
        raise BenexpError(f"export.batch={asked.batch}: {asked.format} at {asked.precision} takes any batch: leave it")
    if asked.precision == "int8" and not (config.tile_folder or config.input_dir or config.demo.size):
        raise BenexpError(
            "int8 needs patches to calibrate on: name a product with tile_folder= or many with input_dir="
        )
    if config.model.weights == "onnx" and asked.format == "onnx" and asked.precision != "int8":
        raise BenexpError(
            f"model.path={config.model.path} is exported already: ONNX at {asked.precision} is made of checkpoints, "
            f"name one with model=NAME; int8 and other formats are made of .onnx files, too"
        )


def _resolve(config: Config) -> ModelSpec:
    return resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)


def _path(config: Config, name: str) -> Path:
    """`<output_folder>/<model>-<precision>[-batchN][-format].<suffix>`: reports of two formats have two names."""
    from exporters.cached import SUFFIXES

    asked = config.export
    more = (f"-batch{asked.batch}" if asked.batch else "") + (f"-{asked.format}" if asked.format != "onnx" else "")
    return Path(config.output_folder) / f"{_plain(name)}-{asked.precision}{more}{SUFFIXES[cast('Kind', asked.format)]}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _range_patches(found: Sequence[Path], config: Config, spec: ModelSpec) -> "RangePatches | None":
    """Patches of the products named: int8 is calibrated on them, and every artefact is checked on them."""
    if not found:
        return None
    from benexp.runs.quantization import range_patches_of

    return range_patches_of(found, config, spec)


def _export(
    config: Config,
    overrides: Sequence[str],
    spec: ModelSpec,
    range_patches: "RangePatches | None",
    say: Callable[[str], object],
) -> dict[str, Any]:
    asked = config.export
    path = _path(config, spec.name)
    try:
        if asked.format == "tensorrt":
            _prepare_tensorrt(config, spec, path, range_patches, say)
        return _make(config, overrides, spec, path, range_patches, say)
    except BenexpError as error:
        if path.exists():
            raise BenexpError(f"{error}; the older {path} is still there, unchanged") from error
        raise


def _prepare_tensorrt(
    config: Config, spec: ModelSpec, path: Path, range_patches: "RangePatches | None", say: Callable[[str], object]
) -> None:
    """Put the .onnx file that the engine is built of beside it, and say how to do that by hand.

    Raises BenexpError, and leaves that file, where benexp cannot do it here.
    """
    from benexp.core.tensorrt import library
    from exporters.cached import typed_source
    from exporters.tensorrt import trtexec_command

    asked = config.export
    assert asked.batch
    source = typed_source(spec, _recipe(config, range_patches))
    if source != spec.path:
        kept = path.with_suffix(".onnx")
        with replacing(kept) as unfinished:
            shutil.copyfile(source, unfinished)
        source = kept
    command = shlex.join(trtexec_command(spec, source, path, asked.precision, asked.batch))
    say(f"{source}  {_size(source)}\nby hand, unchecked: {command}")
    try:
        library()
    except BenexpError as error:
        raise BenexpError(f"no engine was built: {error}; or run the command above where TensorRT is") from error


def _make(
    config: Config,
    overrides: Sequence[str],
    spec: ModelSpec,
    path: Path,
    range_patches: "RangePatches | None",
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Make the artefact and what belongs beside it, say so, and return its record."""
    from exporters.cached import make
    from exporters.mlm import write_item

    asked = config.export
    log.info("exporting %s to %s at %s and checking it against the model", spec.name, asked.format, asked.precision)
    report = make(
        spec,
        cast("Kind", asked.format),
        path,
        _recipe(config, range_patches),
    )
    parity = path.with_suffix(".parity.json")
    made_by = {
        "overrides": list(overrides),
        "command": command(overrides),
        "config": dataclasses.asdict(config),
        "model": {key: getattr(spec, key) for key in ("name", "source", "revision", "weights_hash", "trained")},
        "real_patches": range_patches.source if range_patches else None,
        **environment(),
    }
    with replacing(parity) as unfinished:
        unfinished.write_text(json.dumps({**report, "made_by": made_by}, indent=2) + "\n")
    item = write_item(spec, path, asked.precision, asked.batch, report)
    files = [
        file for file in (path, path.with_suffix(".bin"), path.with_suffix(".json"), parity, item) if file.exists()
    ]
    say(
        "\n".join(
            [*(f"{file}  {_size(file)}" for file in files), *_table(report), _use(path, asked.precision, asked.batch)]
        )
    )
    return {"path": str(path), "files": [str(file) for file in files], "parity": report}


def _recipe(config: Config, range_patches: "RangePatches | None") -> "Recipe":
    from exporters.recipe import Recipe

    asked = config.export
    return Recipe(asked.precision, asked.batch, asked.tolerance.get(asked.precision), range_patches)


def _size(path: Path) -> str:
    count = path.stat().st_size
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _table(report: dict[str, Any]) -> list[str]:
    """The parity report, a line per kind of patches and one for those that decide."""
    lines = [f"{'patches':<16}{'max':>10}{'mean':>10}{'flips/million':>15}{'allowed':>10}  passed"]
    for kind, row in [*report["kinds"].items(), ("deciding", report)]:
        numbers = f"{row['max_abs_diff']:>10.1e}{row['mean_abs_diff']:>10.1e}{row['flips_per_million']:>15.0f}"
        name = f"{row['patches']:>4} {kind}"
        passed = "yes" if row["passed"] else "NO"
        only = "" if row.get("decides", True) else "  for information"
        lines.append(f"{name:<16}{numbers}{row['tolerance']:>10.0e}  {passed}{only}")
    return lines


def _use(path: Path, precision: str, batch: int | None) -> str:
    """The instructions for using the file."""
    if path.suffix == ".engine":
        return f"benexp builds one for itself with backend=tensorrt backend.precision={precision}; this one is yours"
    runs = "openvino" if path.suffix == ".xml" else "onnxruntime-cpu"
    if precision == "fp16":
        runs = "onnxruntime-cuda"
    how = f"backend={runs} backend.precision={precision}" + (f" backend.batch_size={batch}" if batch else "")
    return f"use it: benexp model=onnx model.path={path} {how} tile_folder=..."
