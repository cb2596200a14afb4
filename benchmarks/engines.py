"""Patches per second of engines and precisions, against torch as it is usually written, and how far answers differ.

    python benchmarks/engines.py --model resnet50-s2-v0.2.0 --backends torch onnxruntime-cpu openvino openvino:int8
    python benchmarks/engines.py --backends torch:fp16:cuda onnxruntime-cuda:fp16:cuda --batch-sizes 32 128 512 \
        --bare cuda --peak-tflops 989

A backend is `name[:precision[:device]]`. Backends and batch sizes take turns in one process; medians are printed.
Without --weights the model has lively random weights (benexp/models/untrained.py); with it, those of a folder in the
published format, e.g. what `python -m benexp.demo.train OUT --architecture resnet50` writes.

Each backend is given a whole chunk of uint16 in memory, as the pipeline gives it: cutting, uploading and downloading
are inside. --patches takes a multiple of every batch size, so that no padding is counted or left out. `usual` is eager
torch at fp32, batches of 32, gradients on, of patches that are float32 already. `--bare DEVICE` adds the bare network
at fp16 and bf16 on patches that lie on the device already: the ceiling of a GPU.
"""

# ruff: noqa: E402

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benexp.backends.cuda import keep_fp32

# Before torch loads CUDA's libraries, which read then if TF32 is switched off.
keep_fp32()

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from benexp.config.groups import conf_folder
from benexp.core import cores
from benexp.models.classifier import load_classifier
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from benexp.runs.backend_choice import choose_backend
from exporters.ranges import RangePatches

USUAL_BATCH = 32
RANDOM = ["model.weights=random", "export.tolerance.int8=1"]
"""Random weights, which int8 does not suit: only the speed counts."""


def configured(args: argparse.Namespace, backend: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
    """The model's configuration and the backend's."""
    name, _, rest = backend.partition(":")
    precision, _, device = rest.partition(":")
    overrides = [f"model={args.model}", f"backend='{name}'", f"++backend.batch_size={batch_size}"]
    if args.weights:
        overrides += [f"model.weights=folder model.path='{args.weights}'"]
    elif not args.as_it_is:
        overrides += RANDOM
    overrides = [part for override in overrides for part in override.split(" ")]
    overrides += [f"++backend.precision={precision}"] if precision else []
    overrides += [f"++backend.device={device}"] if device else []
    overrides += [f"++{setting}" for setting in args.settings]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("config", overrides)
    return OmegaConf.to_container(config.model), OmegaConf.to_container(config.backend)  # type: ignore[return-value]


def usual(spec: ModelSpec, patches: np.ndarray) -> Callable[[], np.ndarray]:
    model = load_classifier(spec)

    def run() -> np.ndarray:
        batches = torch.from_numpy(patches).split(USUAL_BATCH)
        return np.concatenate([model(batch).detach().numpy() for batch in batches])

    return run


def bare(spec: ModelSpec, precision: str, device: str, patches: np.ndarray, batch_size: int) -> Callable[[], None]:
    """The network without normalisation or sigmoid, on batches that are where it is already."""
    classifier: Any = load_classifier(spec, precision)
    network = classifier.to(device=device, memory_format=torch.channels_last).network
    dtype = next(network.parameters()).dtype
    resident = torch.from_numpy(patches[:batch_size]).to(device, dtype, memory_format=torch.channels_last)
    resident = (resident - resident.mean()) / resident.std()

    def run() -> None:
        with torch.inference_mode():
            for _ in range(len(patches) // batch_size):
                network(resident)
            if device.startswith("cuda"):
                torch.cuda.synchronize()

    return run


def tera_operations(spec: ModelSpec) -> float:
    """The operations of one patch: two for each multiplication with its addition."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        load_classifier(spec)(torch.zeros(1, len(spec.bands), spec.patch_size, spec.patch_size))
    return counter.get_total_flops() / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50-s2-v0.2.0")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--as-it-is", action="store_true", help="the weights that the model's own file names")
    parser.add_argument("--no-usual", action="store_true", help="leave out torch as it is usually written")
    parser.add_argument("--json", type=Path, help="write the table here, too")
    parser.add_argument("--backends", nargs="*", default=["torch", "onnxruntime-cpu", "openvino"])
    parser.add_argument("--settings", nargs="*", default=[], help="further keys, e.g. backend.mode=latency")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32])
    parser.add_argument("--patches", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bare", metavar="DEVICE")
    parser.add_argument("--peak-tflops", type=float, help="of the device's matrix units, for the share of it")
    args = parser.parse_args()
    # Else engines that pad compute more patches than are counted.
    if uneven := [size for size in args.batch_sizes if args.patches % size]:
        parser.error(f"--patches {args.patches}: takes a multiple of every batch size, which {uneven} do not divide")

    spec = resolve(configured(args, "torch", 32)[0])
    patches = np.clip(varied_patches(spec.bands, args.patches, spec.patch_size, seed=2), 1, 65535).astype(np.uint16)
    # One chunk that holds the patches side by side.
    chunk = np.concatenate(list(patches), axis=-1)
    origins = np.stack([np.zeros(args.patches, int), np.arange(args.patches) * spec.patch_size], axis=1)
    valid = np.ones(chunk.shape[1:], bool)
    range_patches = RangePatches("benchmark", "made-up patches", lambda: varied_patches(spec.bands, 256, seed=3))

    def through(backend: Any) -> Callable[[], np.ndarray]:
        return lambda: backend.classify(chunk, valid, origins)

    runs: dict[tuple[str, int], Callable[[], Any]] = {}
    said: dict[tuple[str, int], dict[str, Any]] = {}
    if not (args.bare or args.no_usual):
        torch.set_num_threads(cores.available())
        runs["usual", USUAL_BATCH] = usual(spec, patches.astype(np.float32))
    for name in args.backends:
        for batch_size in args.batch_sizes:
            choice = choose_backend(configured(args, name, batch_size)[1])
            backend = choice.make(spec, tolerances={"int8": 1.0}, range_patches=range_patches)
            backend.open()
            runs[name, batch_size] = through(backend)
            said[name, batch_size] = backend.describe()
    for precision in ("fp16", "bf16") if args.bare else ():
        for batch_size in args.batch_sizes:
            floats = patches.astype(np.float32)
            runs[f"bare {precision}", batch_size] = bare(spec, precision, args.bare, floats, batch_size)

    speeds: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    answers = {}
    for repeat in range(args.repeats + 1):
        for key, run in runs.items():
            started = time.perf_counter()
            answers[key] = run()
            if repeat:  # the first warms up
                speeds[key].append(args.patches / (time.perf_counter() - started))

    reference = usual(spec, patches.astype(np.float32))()
    first = speeds[next(iter(runs))]
    operations = tera_operations(spec)
    for engine in sorted({f"{about['engine']} on {about['provider']}" for about in said.values()}):
        print(engine)
    weights = args.weights.name if args.weights else "random weights"
    print(f"{args.model}, {weights}, {args.patches} patches, {args.repeats} interleaved repeats, medians\n")
    print("| backend | batch | patches/s | min to max | ratio | TFLOP/s | largest difference | other class |")
    print("|---|---|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for (name, batch_size), values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        speed = statistics.median(values)
        share = f" ({speed * operations / args.peak_tflops:.0%} of peak)" if args.peak_tflops else ""
        answer = answers[name, batch_size]
        difference = flips = ""
        if answer is not None:
            difference = f"{np.abs(answer - reference).max():.1e}"
            flips = f"{(answer.argmax(1) != reference.argmax(1)).sum()} of {args.patches}"
        row = {"backend": name, "batch": batch_size, "patches_per_second": speed, "all": values}
        rows.append(
            row | {"tflops": speed * operations, "difference": difference, "describe": said.get((name, batch_size))}
        )
        print(
            f"| {name} | {batch_size} | {speed:.1f} | {min(values):.1f} to {max(values):.1f} | {ratio:.2f} "
            f"| {speed * operations:.2f}{share} | {difference} | {flips} |"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
