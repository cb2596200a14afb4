"""Tiles per hour with 1, 2 and 4 workers, and what dask's central scheduler costs for each chunk.

    python benchmarks/scaling.py --size 1200 --tiles 8 --workers 1 2 4 --backends null onnxruntime-cpu --repeats 3

Every run is a whole command, start-up and all, on as many cores as it has workers (BENEXP_CORES), so that an efficiency
of 1 is what one core does times the workers. The null backend shows what the engine itself costs, the other a real
model. Then so many tasks that only send back what a chunk does: seconds of the whole, and of the processor in the one
process that is scheduler and collector, for each. What is estimated of 1,000 workers follows from these numbers alone.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Measured, interleaved, medians, write_product

from benexp.config import Execution
from benexp.execution.dask import DaskEngine

CLASSES, BANDS, BINS = 19, 10, 202


class Echo:
    """A workshop that has nothing to do but to answer: arrays as large as those of a chunk of 2048 pixels."""

    def open(self, number: int | None) -> None:
        side = 2048 // 60
        random = np.random.default_rng(0).random((side, side, CLASSES), np.float32)
        self._parcel = random, np.ones((side, side), bool), np.zeros((BANDS, BINS), np.int64)

    def close(self) -> None:
        pass

    def chunk(self, product: Path, fingerprint: str, number: int) -> tuple[Any, ...]:
        return self._parcel


def tiles_per_hour(args: argparse.Namespace, backend: str) -> None:
    """Print a table of the runs with this backend."""
    names = {("local", workers): f"local-{workers}" for workers in args.workers}
    names |= {("dask", workers): f"dask-{workers}" for workers in args.workers}
    commands = {}
    for (execution, workers), name in names.items():
        commands[name] = [
            *("/usr/bin/env", f"BENEXP_CORES={workers}", "BENEXP_TRACKING=none", sys.executable, "-m", "benexp"),
            *(f"input_dir={args.work / 'products'}", f"output_folder={args.work / name}", "resume=false"),
            *("model=demo", f"backend={backend}", f"chunking.chunk_size={args.chunk_size}"),
            *(f"execution={execution}", f"execution.workers={workers}"),
        ]
    runs = interleaved(commands, args.repeats, args.work)
    rate = {name: 3600 * args.tiles / medians(measured).wall_s for name, measured in runs.items()}
    one = rate[names["local", args.workers[0]]] / args.workers[0]
    print(f"\n| {backend}: execution | workers | wall s, min to max | tiles/hour | efficiency |\n|---|---|---|---|---|")
    for (execution, workers), name in names.items():
        efficiency = rate[name] / (workers * one)
        print(f"| {execution} | {workers} | {_range(runs[name])} | {rate[name]:.0f} | {efficiency:.2f} |", flush=True)


def _range(runs: list[Measured]) -> str:
    walls = [run.wall_s for run in runs]
    return f"{min(walls):.1f} to {max(walls):.1f}"


def central_cost(args: argparse.Namespace) -> None:
    """Print what a chunk costs where all of them meet."""
    print("\n| workers | ms per chunk, wall | ms per chunk, processor of the central process | chunks/s |")
    print("|---|---|---|---|")
    cost = 0.0
    for workers in args.workers:
        settings = Execution("dask", workers=workers, threads=2)
        with DaskEngine(Echo(), settings) as engine:
            task = (Path("/data/product.SAFE"), "f" * 64)
            # Once, so that every worker has opened its workshop.
            list(engine.outcomes("chunk", [(*task, number) for number in range(8 * workers)]))
            began, busy = time.perf_counter(), time.process_time()
            for _ in engine.outcomes("chunk", [(*task, number) for number in range(args.chunks)]):
                pass
            wall, cost = time.perf_counter() - began, time.process_time() - busy
        wall, cost = wall / args.chunks, cost / args.chunks
        print(f"| {workers} | {1e3 * wall:.2f} | {1e3 * cost:.2f} | {1 / wall:.0f} |", flush=True)
    print(
        f"\nA chunk that keeps a worker busy for t seconds lets the central process serve t / {cost:.4f} workers: "
        f"1,000 of them from t = {1000 * cost:.1f} s on. With shorter chunks the efficiency is at most "
        f"t / {1000 * cost:.1f}; whole tiles as tasks are rarer, and cost it as much each."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1200)
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backends", nargs="+", default=["null", "onnxruntime-cpu"])
    parser.add_argument("--chunk-size", type=int, default=1024)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/scaling"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, {args.tiles} tiles of {args.size} pixels, {args.repeats} repeats", file=sys.stderr)
    for seed in range(args.tiles):
        write_product(args.work / "products", args.size, seed)
    for backend in args.backends:
        tiles_per_hour(args, backend)
    central_cost(args)


if __name__ == "__main__":
    main()
