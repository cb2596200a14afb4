"""Peak memory against the tile's size: it must not grow with it.

    python benchmarks/memory.py --sizes 2048 5490 10980

The first run of a size classifies with the null backend (all the reading, cutting, blending and writing, no model) or
the one named; the second only renders the saved grid.
"""

import argparse
import shutil
import sys
from pathlib import Path

from harness import measure, write_product


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 5490, 10980])
    parser.add_argument("--backend", default="null")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--layers", default="standard")
    parser.add_argument("--chunk-size", type=int, default=2048)
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    print("| tile px | run | wall s | peak GB |\n|---|---|---|---|")
    for size in args.sizes:
        product = write_product(args.work / "products", size, seed=1)
        out = args.work / "memory"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable, "-m", "benexp", f"tile_folder={product}", f"output_folder={out}", f"model={args.model}",
            f"backend={args.backend}", f"chunking.chunk_size={args.chunk_size}", f"layers={args.layers}",
        ]  # fmt: skip
        for run in ("classify and render", "render the saved grid"):
            measured = measure(command, args.work / "memory.log")
            print(f"| {size} | {run} | {measured.wall_s:.1f} | {measured.peak_gb:.2f} |", flush=True)


if __name__ == "__main__":
    main()
