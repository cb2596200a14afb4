"""A whole tile, end to end: benexp against the straightforward way, on one machine in one run.

    python benchmarks/end_to_end.py --size 6000 --repeats 3

Prints the table of benchmarks/README.md: medians of interleaved repeats, the ratio, peak memory, and how the maps
differ.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import rasterio
from harness import interleaved, measure, medians, write_product


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="resnet50-s2-v0.2.0")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    product = write_product(args.work / "products", args.size, seed=1)

    here = Path(__file__).parent
    straightforward, ours = args.work / "straightforward", args.work / "benexp"
    commands = {
        "straightforward": [
            sys.executable, str(here / "straightforward.py"), str(product), str(straightforward), "--model", args.model,
        ],
        "benexp": [
            sys.executable, "-m", "benexp", f"tile_folder={product}", f"output_folder={ours}", f"model={args.model}",
            "model.weights=random", "resume=false",
        ],
    }  # fmt: skip
    # Random weights are made and exported once, before anything is timed; users do that once per model too.
    region = f"region.pixels=[0,0,{min(512, args.size)},{min(512, args.size)}]"
    measure([*commands["benexp"], region], args.work / "export.log")
    results = interleaved(commands, args.repeats, args.work)
    hand, product_run = medians(results["straightforward"]), medians(results["benexp"])

    tile = product.name.removesuffix(".SAFE")
    ratios = sorted(a.wall_s / b.wall_s for a, b in zip(results["straightforward"], results["benexp"], strict=True))
    print(f"{args.size} x {args.size} px, {args.model}, random weights, {args.repeats} interleaved repeats, medians\n")
    print("| | wall s | cpu s | peak GB |\n|---|---|---|---|")
    for name, m in (("straightforward", hand), ("benexp", product_run)):
        print(f"| {name} | {m.wall_s:.1f} | {m.cpu_s:.1f} | {m.peak_gb:.2f} |")
    print(f"\nspeed-up {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), ", end="")
    print(f"peak memory {product_run.peak_gb / hand.peak_gb:.2f} of the straightforward way's")
    print("benexp busy seconds:", json.loads((ours / tile / "run.json").read_text())["stage_seconds"])
    compare(straightforward, ours / tile, tile)


def compare(straightforward: Path, ours: Path, tile: str) -> None:
    """How many pixels have another class, and whether the top two are apart there."""
    flips = ties = total = 0
    worst = 0.0
    with (
        rasterio.open(straightforward / "class.tif") as a_class,
        rasterio.open(ours / f"{tile}_class.tif") as b_class,
        rasterio.open(straightforward / "maxprob.tif") as a_top,
        rasterio.open(ours / f"{tile}_maxprob.tif") as b_top,
        rasterio.open(straightforward / "gap.tif") as a_gap,
    ):
        for _, window in b_class.block_windows(1):
            a, b = a_class.read(1, window=window), b_class.read(1, window=window)
            different = a != b
            flips += int(different.sum())
            ties += int((different & (a_gap.read(1, window=window) <= 1e-4)).sum())
            total += a.size
            worst = max(
                worst, float(np.nanmax(np.abs(a_top.read(1, window=window) - b_top.read(1, window=window)), initial=0))
            )
    print(
        f"map: {flips} of {total} pixels differ ({1e6 * flips / total:.2f} per million), {ties} of them where the top "
        f"two are within 1e-4; maxprob differs by at most {worst:.1e}"
    )


if __name__ == "__main__":
    main()
