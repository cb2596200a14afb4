"""Many small tiles in one run, with faults injected at random: each must end right, or be reported as failed.

    python benchmarks/soak.py --tiles 200 --damaged 36 --kills 8 --fills 3 --seed 1

First a clean run of one process: what is right, and whether memory and open files stay flat. Then a clean run of two
worker processes: whether those of workers, which live as long as nothing kills one, do. Then a run of two workers
and a MLflow server, during which products are damaged, workers and the server killed (SIGKILL) and the disk
filled up, all chosen by the seed. Then, with the causes removed, the same command again. Exits with 1 where a tile is
wrong or not reported, where anything is left over, or where memory or open files grow.

Results lie on a file system of the script's own (tmpfs in a namespace of mounts), whose size it changes: that needs
Linux, but no root. Where namespaces are not allowed, no disk is filled, and the table says so.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from faults import FAULTS, Fault
from watch import Growth, Watched, growth

from benexp.demo.product import write_product

SIZE = 240
INSIDE = "SOAK_INSIDE"
"""Set where the namespace is."""
ROOMY = "4g"
DIFFER = ("run.json", "viewer.html", "_grid.npz", "mlflow.json")
"""Files that tell times, or where they were sent."""
FULL_DISK, KILLED, NOTHING = "the disk is full", "a worker is killed", "nothing of this"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL = re.compile(r"No space left|cannot write|cannot be written")


@dataclass
class Disk:
    """A file system that can be full; `folder` alone where none can be mounted."""

    folder: Path
    mounted: bool

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "soak", str(self.folder)], check=True)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def fill(self, left: int) -> None:
        """But for so many bytes."""
        while True:
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            with contextlib.suppress(subprocess.CalledProcessError):  # more was written meanwhile
                return self._resize(str(used + left))

    def empty(self) -> None:
        self._resize(ROOMY)


@dataclass
class Troubles:
    """What happens to a run and when; `killed` are the tiles that were under way when a worker was."""

    args: argparse.Namespace
    chance: random.Random
    out: Path
    disk: Disk
    server: "subprocess.Popen[bytes] | None"
    killed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        middle = range(self.args.tiles // 10, self.args.tiles * 9 // 10)
        self._kills = sorted(self.chance.sample(middle, self.args.kills))
        self._fills = sorted(self.chance.sample(middle, self.args.fills if self.disk.mounted else 0))
        self._full_until: int | None = None

    @property
    def left(self) -> int:
        """How many did not happen."""
        return len(self._kills) + len(self._fills) + (self.server is not None)

    def happen(self, run: Watched) -> None:
        under_way = {path.parent.name for path in self.out.glob("*/.unfinished-*")}
        if self._kills and run.ended >= self._kills[0] and under_way and (workers := run.workers()):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.chance.choice(workers).kill()
                self.killed |= under_way
                self._kills.pop(0)
        refused = sum(bool(FULL.search(error)) for error in run.errors)
        if self._full_until is not None and refused >= self._full_until:
            self.disk.empty()
            self._full_until = None
        elif self._full_until is None and self._fills and run.ended >= self._fills[0]:
            self._fills.pop(0)
            # Chunks, the grid or rasters are what does not fit.
            self.disk.fill(self.chance.choice((8_000, 60_000, 500_000)))
            self._full_until = refused + 3
        if self.server and run.ended >= self.args.tiles // 2:
            stop(self.server)
            self.server = None


@contextlib.contextmanager
def mlflow_server(work: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Its address, and its process, which others may stop."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{work}/mlflow.db", "--artifacts-destination", str(work / "artifacts")]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (work / "mlflow.log").open("w") as log:
        process = subprocess.Popen([*command, *stores], stdout=log, stderr=log, env=quiet, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{uri}/health", timeout=5).read()
                break
            time.sleep(0.2)
        yield uri, process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """With its children, of which servers have some; it may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def contents(folder: Path) -> dict[str, str]:
    """The hash of each file that must be the same whenever and however often it is made."""
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.endswith(DIFFER))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def verdict(tile: str, out: Path, clean: Path, reported: Sequence[str]) -> str:
    """`right`, `failed` (and reported so), `wrong` or `unreported`."""
    if (out / tile / "run.json").exists():
        same = tile not in reported and contents(out / tile) == contents(clean / tile)
        return "right" if same else "wrong"
    return "failed" if tile in reported else "unreported"


def reported_by(errors: Sequence[str]) -> list[str]:
    """The tiles whose products a run says have failed."""
    found = [re.fullmatch(r"\d+ of \d+ products failed: (.*)", error) for error in errors]
    names = [name for match in found if match for name in match[1].split(", ")]
    return [name.removesuffix(".SAFE").removesuffix(".zip") for name in names]


def resumed(out: Path, killed: set[str]) -> str:
    """What the tiles that were under way when a worker was killed have gone on from."""
    records = [json.loads(path.read_text()) for tile in sorted(killed) if (path := out / tile / "run.json").exists()]
    chunks = [record["resumed_chunks"] for record in records]
    reused = sum(record["grid_reused"] for record in records)
    anew = len(records) - reused - sum(map(bool, chunks))
    return f"{sum(map(bool, chunks))} went on from {sum(chunks)} kept chunks, {reused} from a saved grid, {anew} anew"


def lay_out(products: Path, pristine: Path, count: int) -> None:
    """Fill `products` with links to so many sound ones."""
    shutil.rmtree(products, ignore_errors=True)
    for safe in sorted(pristine.glob("*.SAFE"))[:count]:
        shutil.copytree(safe, products / safe.name, copy_function=os.link)


def damage(products: Path, count: int, chance: random.Random) -> dict[str, Fault]:
    """Do something to so many of the products; what, by their tiles."""
    chosen = chance.sample(sorted(products.iterdir()), count)
    done = {}
    for number, safe in enumerate(chosen):
        fault = FAULTS[number % len(FAULTS)]
        fault.inflict(safe, chance)
        done[safe.stem] = fault
    return done


def label(tile: str, damaged: dict[str, Fault], errors: Sequence[str], killed: set[str]) -> str:
    """What happened to a tile."""
    if tile in damaged:
        return damaged[tile].name
    if any(tile in error and FULL.search(error) for error in errors):
        return FULL_DISK
    return KILLED if tile in killed else NOTHING


def tell(labels: dict[str, str], verdicts: dict[str, str]) -> list[str]:
    """Print a row for each fault; what is not as it must be."""
    print("\n| what happened | tiles | right | reported as failed | wrong | not reported |\n|---|---|---|---|---|---|")
    problems = []
    for name in [*(fault.name for fault in FAULTS), FULL_DISK, KILLED, NOTHING]:
        row = Counter(verdicts[tile] for tile in labels if labels[tile] == name)
        if row:
            print(
                f"| {name} | {row.total()} | {row['right']} | {row['failed']} | {row['wrong']} | {row['unreported']} |"
            )
        noticed = not any(fault.name == name and not fault.noticeable for fault in FAULTS)
        bad = row["unreported"] + noticed * row["wrong"] + (name in (KILLED, NOTHING)) * row["failed"]
        problems += [f"{name}: {bad} tiles ended as they must not"] if bad else []
    return problems


def tell_growth(name: str, grown: Sequence[Growth], early: int, late: int) -> list[str]:
    """Print how much a run needed early and late; what is not flat."""
    print(f"\n| {name} | by tile {early} | by tile {late} | at most |\n|---|---|---|---|")
    for one in grown:
        print(f"| {one.what} | {one.early:.0f} | {one.late:.0f} | {one.early + one.allowed:.0f} |")
    return [f"{name}: {one.what} grew from {one.early:.0f} to {one.late:.0f}" for one in grown if not one.is_flat]


def soak(args: argparse.Namespace) -> list[str]:
    """Make the four runs and print their tables; what is not as it must be."""
    chance = random.Random(args.seed)
    pristine, products, clean = (args.work / name for name in ("pristine", "products", "clean"))
    for seed in range(args.tiles):
        write_product(pristine, SIZE, seed)
    disk = Disk(args.work / "disk", mounted=INSIDE in os.environ)
    out = disk.folder / "out"
    shutil.rmtree(clean, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    asked = [f"input_dir={products}", "model=demo", "chunking.chunk_size=120", f"backend={args.backend}"]
    lay_out(products, pristine, args.tiles)
    tiles = sorted(safe.stem for safe in products.iterdir())

    said("a clean run")
    run = Watched([*asked, f"output_folder={clean}", "tracking=none"], args.work / "clean.log")
    if run.run(lambda: None):
        return [f"the clean run failed: {run.errors[-1:]}"]
    flat = growth(run, args.early, args.tiles)

    said("a clean run of two workers")
    shared = args.work / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    arguments = [*asked, f"output_folder={shared}", "execution.workers=2", "tracking=none"]
    run = Watched(arguments, args.work / "shared.log")
    if run.run(lambda: None):
        return [f"the clean run of two workers failed: {run.errors[-1:]}"]
    # By then each of the two has done as many as the one.
    early_shared = min(2 * args.early, args.tiles)
    flat_shared = growth(run, early_shared, args.tiles)
    unequal = [tile for tile in tiles if verdict(tile, shared, clean, []) != "right"]

    said("a run with faults")
    damaged = damage(products, args.damaged, chance)
    with mlflow_server(args.work) as (uri, server):
        arguments = [*asked, f"output_folder={out}", "execution.workers=2", "tracking=mlflow", f"tracking.uri={uri}"]
        run = Watched(arguments, args.work / "faults.log")
        troubles = Troubles(args, chance, out, disk, server)
        code = run.run(lambda: troubles.happen(run))
    reported = reported_by(run.errors)
    labels = {tile: label(tile, damaged, run.errors, troubles.killed) for tile in tiles}
    problems = tell(labels, {tile: verdict(tile, out, clean, reported) for tile in tiles})
    for name in dict.fromkeys(labels.values()):
        examples = [error for error in run.errors for tile in tiles if labels[tile] == name and tile in error]
        print(f"- {name}: {examples[0] if examples else 'nothing is said'}", file=sys.stderr)
    print(f"\nOf the tiles that were under way when a worker was killed, {resumed(out, troubles.killed)}.")
    unrecorded = [warning for warning in run.warnings if warning.startswith("not recorded in MLflow")]
    print(f"\nMLflow's server is killed after {args.tiles // 2} tiles: {len(unrecorded)} warning, and nothing else.")
    if len(unrecorded) != 1:
        problems.append("MLflow was killed, and that was not said once")
    if code != 1 or troubles.left:
        problems.append(f"exit code {code}, and {troubles.left} faults that found no time")
    problems += [f"two workers make other files: {unequal}"] if unequal else []
    problems += tell_growth("a clean run, one process", flat, args.early, args.tiles)
    problems += tell_growth("a clean run, two workers", flat_shared, early_shared, args.tiles)
    problems += tell_growth(
        "the run with faults, two workers", growth(run, args.early, args.tiles), args.early, args.tiles
    )

    said("the same command again, without the faults")
    if disk.mounted:
        disk.empty()
    lay_out(products, pristine, args.tiles)
    run = Watched([*asked, f"output_folder={out}", "execution.workers=2", "tracking=none"], args.work / "again.log")
    run.run(lambda: None)
    right = sum(verdict(tile, out, clean, reported_by(run.errors)) == "right" for tile in tiles)
    left = [path for path in out.rglob("*") if path.name.startswith(".") or ".partial" in path.name]
    print(f"\nThe same command again, without the faults: {right} of {args.tiles} right, {len(left)} leftovers.")
    return problems + (
        [f"{args.tiles - right} not right in the end, left over: {left}"] if left or right < args.tiles else []
    )


def said(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=36)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--fills", type=int, default=3)
    parser.add_argument("--early", type=int, default=20, help="the tile that memory and open files are compared with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/soak"))
    args = parser.parse_args()
    args.work = args.work.absolute()
    args.work.mkdir(parents=True, exist_ok=True)
    if INSIDE not in os.environ:
        if subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", str(args.work)], capture_output=True).returncode:
            print("No file system can be mounted here: no disk will be full.")
        else:
            os.execvpe(NAMESPACE[0], [*NAMESPACE, sys.executable, *sys.argv], os.environ | {INSIDE: "yes"})
    problems = soak(args)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
