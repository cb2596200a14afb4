"""Patches per second of the CPU backends, and how far their answers are from torch's.

    python benchmarks/engines.py --model resnet50-s2-v0.2.0 --batch-sizes 8 32 64 --repeats 5

Lively random weights (see benexp/models/untrained.py). Backends and batch sizes take turns; medians are printed.
"""

import argparse
import statistics
import time

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benexp.models.resolve import resolve
from benexp.models.synthetic import varied_patches
from benexp.tasks.prepare import make_backend
from benexp.usage import conf_folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet50-s2-v0.2.0")
    parser.add_argument("--backends", nargs="+", default=["torch", "onnxruntime-cpu"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--patches", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    runs = []
    for name in args.backends:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("config", [f"model={args.model}", "model.weights=random", f"backend={name}"])
        spec = resolve(OmegaConf.to_container(config.model))
        for batch_size in args.batch_sizes:
            settings = OmegaConf.to_container(config.backend) | {"batch_size": batch_size}
            backend = make_backend(settings, spec)
            backend.open()
            runs.append((name, batch_size, backend))

    # One chunk that holds the patches side by side.
    patches = varied_patches(spec.bands, args.patches, spec.patch_size, seed=2)
    chunk = np.concatenate(list(np.clip(patches, 1, 65535).astype(np.uint16)), axis=-1)
    origins = np.stack([np.zeros(args.patches, int), np.arange(args.patches) * spec.patch_size], axis=1)
    valid = np.ones(chunk.shape[1:], bool)
    speeds = {(name, batch_size): [] for name, batch_size, _ in runs}
    answers = {}
    for _ in range(args.repeats):
        for name, batch_size, backend in runs:
            started = time.perf_counter()
            answers[name, batch_size] = backend.classify(chunk, valid, origins)
            speeds[name, batch_size].append(args.patches / (time.perf_counter() - started))
    reference = answers[runs[0][:2]]
    print(f"{args.model}, fp32, {args.patches} patches, {args.repeats} interleaved repeats, medians\n")
    print("| backend | batch | patches/s | min to max | largest difference |\n|---|---|---|---|---|")
    for (name, batch_size), values in speeds.items():
        difference = np.abs(answers[name, batch_size] - reference).max()
        print(
            f"| {name} | {batch_size} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} "
            f"| {difference:.1e} |"
        )


if __name__ == "__main__":
    main()
