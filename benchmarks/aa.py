"""A configuration measured against itself: what the instrument calls a difference where there is none.

    python benchmarks/aa.py --size 1200 --repeats 15 model=demo backend=onnxruntime-cpu

Two folders, A and B, take turns with the same command line, and are compared as a sweep compares its configurations.
`--b chunking.chunk_size=512` gives B another one: then it is an A/B comparison.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import write_product

from benexp.measure.statistics import RECOMMENDED_REPEATS, compare, spread


def seconds(product: Path, out: Path, overrides: list[str]) -> float:
    """What a benchmark of one product says that it took."""
    fixed = ["benchmark.ceiling=false", "resume=false", "tracking=none"]
    command = [sys.executable, "-m", "benexp", "task=benchmark", f"tile_folder={product}", f"output_folder={out}"]
    subprocess.run([*command, *fixed, *overrides], check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((out / "report.json").read_text())["totals"]["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of benexp, for both")
    parser.add_argument("--b", nargs="*", default=[], help="overrides for B alone")
    parser.add_argument("--size", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=RECOMMENDED_REPEATS)
    args = parser.parse_args()
    found: dict[str, dict[int, float]] = {"A": {}, "B": {}}
    more = {"A": [], "B": args.b}
    with tempfile.TemporaryDirectory() as scratch:
        product = write_product(Path(scratch), args.size, seed=7)
        for repeat in range(args.repeats):
            for name in found:
                out = Path(scratch) / name
                found[name][repeat] = seconds(product, out, [*args.overrides, *more[name]])
            print(f"{repeat + 1}: A {found['A'][repeat]:.3f} s, B {found['B'][repeat]:.3f} s", flush=True)
    for name, times in found.items():
        deviation = spread(list(times.values()))
        print(f"{name}: spread {deviation:.1%}" if deviation is not None else f"{name}: one run")
    print(f"B against A: {compare(found['B'], found['A'])}")


if __name__ == "__main__":
    main()
