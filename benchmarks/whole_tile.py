"""What a whole tile costs beyond its parts: decoding alone, the bare model alone, blending and writing.

    python benchmarks/whole_tile.py --size 3000 --backends onnxruntime-cpu openvino openvino:int8 --repeats 3

Every part and every whole run is a process of its own, and they take turns; start-up and loading the model are timed
in none of them (run.json's `seconds`, less those of opening the engine). Prints medians and whole / sum of the parts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from harness import write_product
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benexp.config.groups import conf_folder


def arguments(backend: str, weights: Path | None) -> list[str]:
    name, _, precision = backend.partition(":")
    chosen = ["model=resnet50-s2-v0.2.0", f"backend={name}"]
    # int8 does not suit random weights: only the speed counts there.
    random = ["model.weights=random", "export.tolerance.int8=1"]
    chosen += ["model.weights=folder", f"model.path={weights}"] if weights else random
    return chosen + ([f"backend.precision={precision}"] if precision else [])


def decode(product: Path) -> float:
    """Every chunk of the tile, read as a run reads it."""
    from benexp.mapping.grid import PatchGrid
    from benexp.products import open_product, open_tile

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        bands = compose("config", ["model=resnet50-s2-v0.2.0"]).model.bands
    with open_tile(open_product(product), bands) as tile:
        started = time.perf_counter()
        for chunk in PatchGrid(tile.shape, 120, 60).chunks(2048):
            tile.read(chunk.window)
        return time.perf_counter() - started


def bare_model(product: Path, backend: str, weights: Path | None) -> float:
    """As many patches as the tile has, in batches that are in memory already."""
    from benexp.config.quoting import quote
    from benexp.config.validation import check
    from benexp.mapping.grid import PatchGrid
    from benexp.models.resolve import resolve
    from benexp.models.synthetic import varied_patches
    from benexp.products import open_product, open_tile
    from benexp.runs.backend_setup import make_backend
    from benexp.runs.quantization import calibration_of

    overrides = [quote(part) for part in [*arguments(backend, weights), f"tile_folder={product}"]]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = check(compose("config", overrides))
    spec = resolve(OmegaConf.to_container(OmegaConf.structured(config.model)))
    calibration = calibration_of([product], config, spec) if backend.endswith(":int8") else None
    engine = make_backend(config.backend, spec, tolerances=config.export.tolerance, calibration=calibration)
    with open_tile(open_product(product), spec.bands) as tile:
        count = int(np.prod(PatchGrid(tile.shape, 120, 60).shape))
    patches = np.clip(varied_patches(spec.bands, 256, seed=2), 1, 65535).astype(np.uint16)
    chunk = np.concatenate(list(patches), axis=-1)
    valid = np.ones(chunk.shape[1:], bool)
    origins = np.stack([np.zeros(count, int), np.arange(count) % len(patches) * 120], axis=1)
    with engine:
        started = time.perf_counter()
        engine.classify(chunk, valid, origins)
        return time.perf_counter() - started


def whole(product: Path, out: Path, backend: str, weights: Path | None, *more: str) -> float:
    command = [sys.executable, "-m", "benexp", f"tile_folder={product}", f"output_folder={out}"]
    subprocess.run([*command, *arguments(backend, weights), *more], check=True, capture_output=True)
    record = json.loads((out / product.name.removesuffix(".SAFE") / "run.json").read_text())
    return record["seconds"] - record["stage_seconds"].get("load", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--backends", nargs="+", default=["onnxruntime-cpu", "openvino", "openvino:int8"])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--part", nargs=2, metavar=("WHAT", "PRODUCT"), help="used by the script itself")
    args = parser.parse_args()
    if args.part:
        what, product = args.part
        print(decode(Path(product)) if what == "decode" else bare_model(Path(product), what, args.weights))
        return

    args.work.mkdir(parents=True, exist_ok=True)
    product = write_product(args.work / "products", args.size, seed=1)
    weights = ["--weights", str(args.weights)] if args.weights else []

    def part(what: str) -> float:
        command = [sys.executable, __file__, "--part", what, str(product), *weights]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

    for backend in args.backends:
        # Artefacts are made once, before anything is timed.
        whole(product, args.work / "whole", backend, args.weights, "resume=false")
    times: dict[str, list[float]] = {}
    for repeat in range(args.repeats):
        times.setdefault("decode", []).append(part("decode"))
        for backend in args.backends:
            out = args.work / "whole"
            times.setdefault(f"model {backend}", []).append(part(backend))
            times.setdefault(f"whole {backend}", []).append(
                whole(product, out, backend, args.weights, "resume=false", "integrity=none")
            )
            # The grid is there now: what is left is blending, writing and the reports.
            times.setdefault(f"render {backend}", []).append(
                whole(product, out, backend, args.weights, "integrity=none")
            )
            print(f"  {repeat + 1}/{args.repeats} {backend}", file=sys.stderr)

    print(f"{args.size} x {args.size} px, resnet50-s2, {args.repeats} interleaved repeats, medians of seconds\n")
    print("| backend | decode | model | blend and write | sum | whole | whole / sum |\n|---|---|---|---|---|---|---|")
    for backend in args.backends:
        parts = [times["decode"], times[f"model {backend}"], times[f"render {backend}"]]
        sums = [sum(values) for values in zip(*parts, strict=True)]
        runs = times[f"whole {backend}"]
        ratios = [a / b for a, b in zip(runs, sums, strict=True)]
        cells = [statistics.median(values) for values in (*parts, sums, runs)]
        row = " | ".join(f"{cell:.1f}" for cell in cells)
        print(f"| {backend} | {row} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
