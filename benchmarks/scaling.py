"""Tiles per hour with 1, 2 and 4 workers, and what dask's central scheduler costs for each chunk.

    python benchmarks/scaling.py --size 1200 --tiles 8 --workers 1 2 4 --backends null onnxruntime-cpu --repeats 3

Every run is a whole command, start-up and all, on as many cores as it has workers (BENEXP_CORES), so that an efficiency
of 1 is what one core does times the workers. "by hand" is what the machine allows: as many commands without workers
at once, each on one core, for its share of the tiles. The null backend shows what the engine itself costs, the other a
real model. Then so many tasks that only send back what a chunk does: seconds of the whole, and of the processor in the
one process that is scheduler and collector, for each. What is estimated of 1,000 workers follows from these alone.
"""

import argparse
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Measured, interleaved, medians, write_product

from benexp.config.schema import Execution
from benexp.execution.dask import DaskPool

CLASSES, BANDS, BINS = 19, 10, 202


class Echo:
    """A task that has nothing to do but to answer: arrays as large as those of a chunk of 2048 pixels."""

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
    kinds = ("by hand", "local", "dask")
    names = {(kind, workers): f"{kind.replace(' ', '-')}-{workers}" for kind in kinds for workers in args.workers}
    commands: dict[str, list[str]] = {}
    for (execution, workers), name in names.items():
        if execution == "by hand":
            shares = [args.work / f"share-{part}-of-{workers}" for part in range(workers)]
            commands[name] = at_once([command(args, backend, share, f"{name}/{share.name}", 1) for share in shares])
        else:
            chosen = [f"execution={execution}", f"execution.workers={workers}"]
            commands[name] = [*command(args, backend, args.work / "products", name, workers), *chosen]
    runs = interleaved(commands, args.repeats, args.work)
    rate = {name: 3600 * args.tiles / medians(measured).wall_s for name, measured in runs.items()}
    one = rate[names["by hand", args.workers[0]]] / args.workers[0]
    print(f"\n| {backend}: execution | workers | wall s, min to max | tiles/hour | efficiency |\n|---|---|---|---|---|")
    for (execution, workers), name in names.items():
        efficiency = rate[name] / (workers * one)
        print(f"| {execution} | {workers} | {_range(runs[name])} | {rate[name]:.0f} | {efficiency:.2f} |", flush=True)


def command(args: argparse.Namespace, backend: str, products: Path, name: str, cores: int) -> list[str]:
    """A run over the products in a folder, on so many cores."""
    return [
        *("/usr/bin/env", f"BENEXP_CORES={cores}", "BENEXP_TRACKING=none", sys.executable, "-m", "benexp"),
        *(f"input_dir={products}", f"output_folder={args.work / name}", "resume=false"),
        *("model=demo", f"backend={backend}", f"chunking.chunk_size={args.chunk_size}"),
    ]


def at_once(commands: list[list[str]]) -> list[str]:
    """One command that runs several beside each other, and fails where one of them does."""
    started = "\n".join(f'{shlex.join(command)} & all="$all $!"' for command in commands)
    return ["/bin/sh", "-ec", f"{started}\nfor one in $all; do wait $one; done"]


def share_out(args: argparse.Namespace) -> None:
    """Folders with every n-th of the products for each of n workers."""
    made = sorted((args.work / "products").glob("*.SAFE"))
    for workers in args.workers:
        for part in range(workers):
            for product in made[part::workers]:
                copy = args.work / f"share-{part}-of-{workers}" / product.name
                shutil.copytree(product, copy, copy_function=os.link)


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
        with DaskPool(Echo(), settings) as engine:
            task = (Path("/data/product.SAFE"), "f" * 64)
            # Once, so that every worker has opened its task.
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
    share_out(args)
    for backend in args.backends:
        tiles_per_hour(args, backend)
    central_cost(args)


if __name__ == "__main__":
    main()
