"""The first half hour with a GPU: every command of benchmarks/gpu.md, one JSON and one table.

    python benchmarks/gpu.py --out gpu --peak-tflops 989
    python benchmarks/gpu.py --out gpu --only bare compare
    python benchmarks/gpu.py --rehearse --out rehearsal    # the same on a CPU with the demo model, to see that all runs

A command that fails is a row that says so; the others go on. What each printed is in OUT/logs.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TF32 = {value: {"NVIDIA_TF32_OVERRIDE": number} for value, number in (("true", "1"), ("false", "0"))}


@dataclass(frozen=True)
class Command:
    step: str
    name: str
    words: list[str]
    result: Path | None = None
    """The JSON that it writes."""
    environment: dict[str, str] = field(default_factory=dict)
    beside: list[str] | None = None
    """Another command, at the same time."""

    @property
    def shell(self) -> str:
        """As typed."""
        settings = "".join(f"{name}={value} " for name, value in self.environment.items())
        return " & ".join(settings + shlex.join(words) for words in (self.words, self.beside) if words)


@dataclass(frozen=True)
class Setting:
    """The machine and the data that the commands run on."""

    out: Path
    model: list[str]
    """Overrides."""
    device: str
    patches: int
    batches: tuple[int, ...]
    odd_batch: int
    size: int
    """Pixels along a side of the made-up tile."""
    bare: bool
    peak_tflops: float | None

    def backends(self, *names: str) -> list[str]:
        """`name:precision` of the backends, on the device; on a CPU those that run there stand in for them."""
        if self.device != "cpu":
            return [f"{name}:{self.device}" if name.startswith("torch") else name for name in names]
        stand_ins = {"torch": "torch", "onnxruntime-cuda": "onnxruntime-cpu"}
        return list(dict.fromkeys(stand_ins.get(name.partition(":")[0], "null") for name in names))


GPU = Setting(
    Path(), ["model=resnet50-s2-v0.2.0", "model.weights=random"], "cuda", 2048, (256, 1024), 289, 10980, True, None
)
REHEARSAL = Setting(Path(), ["model=demo"], "cpu", 16, (4, 8), 5, 600, False, None)


def engines(setting: Setting, step: str, name: str, *more: str, **environment: str) -> Command:
    result = setting.out / plain(f"{step}-{name}.json")
    words = [sys.executable, str(HERE / "engines.py"), "--json", str(result), "--patches", str(setting.patches)]
    words += ["--model", setting.model[0].partition("=")[2], "--no-usual", *more]
    if setting.model == ["model=demo"]:
        words += ["--as-it-is"]
    if setting.peak_tflops:
        words += ["--peak-tflops", str(setting.peak_tflops)]
    return Command(step, name, words, result, environment)


def plain(name: str) -> str:
    """`name` as that of a file, of which shells and Hydra make nothing else."""
    return re.sub(r"[^\w.-]+", "-", name)


def benexp(setting: Setting, tile: Path, *overrides: str) -> list[str]:
    tolerance = ["export.tolerance.int8=1"] if "model.weights=random" in setting.model else []
    return [sys.executable, "-m", "benexp", *setting.model, *tolerance, f"tile_folder={tile}", *overrides]


def of_backend(setting: Setting, name: str) -> list[str]:
    """Overrides for `name:precision:device`."""
    backend, _, rest = name.partition(":")
    precision, _, device = rest.partition(":")
    found = [f"backend={backend}"]
    found += [f"backend.precision={precision}"] if precision else []
    return found + ([f"backend.device={device}"] if device else [])


def commands(setting: Setting, tile: Path) -> Iterator[Command]:
    """All of them, in the order of gpu.md."""
    small, large = (str(size) for size in setting.batches)
    both = ["--batch-sizes", small, large]
    yield Command("doctor", "doctor", [sys.executable, "-m", "benexp", "task=doctor"])

    if setting.bare:
        yield engines(setting, "bare", "network", "--bare", setting.device, *both, "--backends")
    for name in setting.backends("torch:fp16", "onnxruntime-cuda:fp16", "onnxruntime-tensorrt:fp16", "tensorrt:fp16"):
        yield engines(setting, "bare", name, "--backends", name, *both)

    one = ["--batch-sizes", small, "--backends"]
    for name in setting.backends("onnxruntime-cuda:fp16", "torch:fp16"):
        for key in ("prefer_nhwc",) if name.startswith("onnxruntime-cuda") else ("cudnn_benchmark", "compile"):
            for value in ("true", "false") if name.startswith(("onnxruntime-cuda", "torch")) else ():
                label = f"{name} {key}={value}"
                yield engines(setting, "variants", label, *one, name, "--settings", f"backend.{key}={value}")
    for name in setting.backends("onnxruntime-cuda:fp32", "torch:fp32"):
        for value in ("true", "false") if setting.device != "cpu" else ():
            extra = ["--settings", f"backend.tf32={value}"]
            yield engines(setting, "variants", f"{name} tf32={value}", *one, name, *extra, **TF32[value])

    for name in setting.backends(
        "tensorrt:fp16", "tensorrt:int8", "onnxruntime-tensorrt:fp16", "onnxruntime-tensorrt:int8"
    ):
        yield engines(setting, "engines", name, *one, name)

    exact = setting.backends("torch:fp32", "onnxruntime-cuda:fp32", "onnxruntime-tensorrt:fp32", "tensorrt:fp32")
    rounded = setting.backends("torch:fp16", "onnxruntime-cuda:fp16", "tensorrt:fp16", "tensorrt:int8")
    for name in dict.fromkeys([*exact, *rounded]):
        if name != exact[0]:
            folder = setting.out / "compare" / plain(name)
            words = benexp(
                setting,
                tile,
                "task=compare",
                f"backends=[{exact[0]},{name}]",
                f"backend.batch_size={small}",
                f"output_folder={folder}",
            )
            # The first backend is at fp32, whatever the other.
            yield Command("compare", name, words, folder, TF32["false"])

    (best,) = setting.backends("tensorrt:fp16")
    folder = setting.out / "batches"
    sizes = ",".join(map(str, (setting.batches[0], setting.odd_batch, setting.batches[1])))
    words = benexp(
        setting,
        tile,
        "-m",
        "task=benchmark",
        *of_backend(setting, best),
        f"backend.batch_size={sizes}",
        f"output_folder={folder}",
        "tracking=none",
    )
    yield Command("batches", best, words, folder)

    (torch,) = setting.backends("torch:fp16")
    for graphs in ("false", "true") if setting.device != "cpu" else ("false",):
        folder = setting.out / f"dask-compile-{graphs}"
        words = benexp(
            setting,
            tile,
            "execution=dask",
            "execution.workers=1",
            *of_backend(setting, torch),
            f"backend.batch_size={small}",
            f"backend.compile={graphs}",
            f"output_folder={folder}",
            "resume=false",
        )
        yield Command("dask", f"{torch} compile={graphs}", words, folder)

    pair = []
    for name in (torch, best):
        folder = setting.out / plain(f"together-{name}")
        settings = [*of_backend(setting, name), f"backend.batch_size={small}"]
        pair.append(benexp(setting, tile, *settings, f"output_folder={folder}", "resume=false"))
    yield Command("together", f"{torch} and {best}", pair[0], setting.out, beside=pair[1])


def run(command: Command, logs: Path, limit: float) -> dict[str, Any]:
    """Run it; what it was, how long it took, and what it found or why it failed."""
    environment = os.environ | command.environment
    started = time.perf_counter()
    processes = []
    for number, words in enumerate(filter(None, (command.words, command.beside))):
        log = logs / plain(f"{command.step}-{command.name}-{number}.log")
        with log.open("w") as out:
            # A session of its own, so that it ends with all that it started, such as workers on the GPU.
            process = subprocess.Popen(
                words, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        processes.append((process, log))
    problem = None
    try:
        for process, log in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(1, limit - (time.perf_counter() - started)))
            if process.poll() is None:
                problem = f"it took longer than {limit:g} s"
            elif process.returncode:
                problem = (log.read_text().strip().splitlines() or ["nothing was printed"])[-1][-300:]
    finally:
        # Also where this script is interrupted, which other sessions do not hear of.
        for process, _ in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.perf_counter() - started
    said = {"step": command.step, "name": command.name, "seconds": round(seconds, 1), "problem": problem}
    return said | {"command": command.words, "found": None if problem else found(command)}


def found(command: Command) -> Any:
    """The results that a command wrote, as far as the table needs them."""
    if command.result is None:
        return None
    if command.result.is_file():
        return json.loads(command.result.read_text())
    if command.step == "compare":
        results = [json.loads(path.read_text()) for path in command.result.glob("*/comparison.json")]
        return [backend for result in results for backend in result["backends"]]
    if command.step == "batches":
        rows = (command.result / "benchmark_report.csv").read_text().splitlines()
        names = rows[0].split(",")
        return [dict(zip(names, row.split(","), strict=False)) for row in rows[1:]]
    folders = "together-*/*/run.json" if command.step == "together" else "*/run.json"
    records = [json.loads(path.read_text()) for path in sorted(command.result.glob(folders))]
    return [{key: record.get(key) for key in ("seconds", "map_hash", "backend", "patches")} for record in records]


def in_words(row: dict[str, Any]) -> str:
    """A row's finding, short."""
    if row["problem"]:
        return f"FAILED: {row['problem']}"
    things = row["found"] or []
    if row["step"] in ("bare", "variants", "engines"):
        return "; ".join(
            f"{thing['backend']} at {thing['batch']}: {thing['patches_per_second']:.0f}/s" for thing in things
        )
    if row["step"] == "compare":
        thing = things[-1]
        return f"{thing.get('flips_per_million')} flips per million, largest difference {thing.get('prob_diff_max')}"
    if row["step"] == "batches":
        keys = ("batch_size", "patches_per_second", "seconds", "map_hash")
        return "; ".join(", ".join(str(thing.get(key, ""))[:12] for key in keys) for thing in things)
    hashes = {thing["map_hash"] for thing in things}
    times = ", ".join(f"{thing['seconds']} s" for thing in things)
    return f"{times}; {len(hashes)} map(s)" if things else "see the log"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"))
    parser.add_argument("--only", nargs="+", metavar="STEP", help="of gpu.md")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, small")
    parser.add_argument("--list", action="store_true", help="print the commands with their environment, and run none")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one command")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU's matrix units at fp16")
    args = parser.parse_args()
    out = args.out.absolute()
    values = asdict(REHEARSAL if args.rehearse else GPU) | {"out": out, "peak_tflops": args.peak_tflops}
    setting = Setting(**values)

    def chosen(tile: Path) -> Iterator[Command]:
        return (command for command in commands(setting, tile) if not args.only or command.step in args.only)

    if args.list:
        for command in chosen(Path("TILE")):
            print(command.shell)
        return
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    tile = _product(out / "product", setting.size)
    rows: list[dict[str, Any]] = []
    for command in chosen(tile):
        print(f"{command.step}: {command.name} ...", file=sys.stderr)
        rows.append(run(command, logs, args.limit))
        # After each one: a machine that is taken away leaves what was found.
        (out / "gpu.json").write_text(json.dumps(rows, indent=2) + "\n")
        (out / "gpu-table.md").write_text(table(rows))
    print(table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| step | what | seconds | found |", "|---|---|---|---|"]
    lines += [f"| {row['step']} | {row['name']} | {row['seconds']} | {in_words(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _product(folder: Path, size: int) -> Path:
    made = next(folder.glob("*.SAFE"), None)
    if made:
        return made
    words = [sys.executable, "-m", "benexp.demo", str(folder), "--size", str(size)]
    return Path(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[0])


if __name__ == "__main__":
    main()
