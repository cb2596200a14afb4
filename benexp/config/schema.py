"""The schema of a configuration: every key with its type, its limits and, where conf/ gives none, its default."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

INTEGRITY = ("auto", "checksum", "structure", "none")
SATURATED = ("mask", "keep")
FORMATS = ("onnx", "openvino", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SPLITS = ("train", "validation", "test")
WINDOWS = ("sin2", "gaussian", "flat")
"""Shapes of the blending window; mapping/blending.py defines them."""
EXECUTIONS = ("local", "dask")
REFERENCE_CODES = ("auto", "ids", "clc")
MOST = 65536
"""Workers, threads, jobs, patches: larger numbers are mistakes, which would keep the machine busy for long."""
LONGEST = 1e9
"""Seconds that can be waited for."""
RENAMED = {
    "calibration.patches": "quantization.patches",
    "calibration": "quantization",
    "task=report": "task=upload",
}
"""Former names of keys and choices, with the present ones."""


@dataclass(frozen=True)
class Limit:
    """The values that a key takes, beyond its type; `takes` describes them in error messages."""

    accepts: Callable[[Any], object]
    takes: str


def limit(accepts: Callable[[Any], object], takes: str) -> dict[str, Limit]:
    """The metadata of a field with a limit, which does not apply to null where the type allows that."""
    return {"limit": Limit(accepts, takes)}


def one_of(*choices: str, null: str = "") -> dict[str, Limit]:
    """The limit of a field that takes one of the choices; `null` describes what null stands for."""
    return limit(choices.__contains__, ", ".join(choices) + null)


def whole(low: int, high: float = float("inf"), null: str = "") -> dict[str, Limit]:
    """The limit of a field that takes whole numbers; `null` describes what null stands for."""
    upper = f" to {high}" if high < float("inf") else ""
    return limit(lambda value: low <= value <= high, f"a whole number from {low}{upper}{null}")


def memory(takes: str, *words: str) -> dict[str, Limit]:
    """The limit of a field that takes an amount of memory, or one of the words."""
    pattern = r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})? ?([kKMGTP]i?)?B"
    return limit(lambda value: value in words or re.fullmatch(pattern, value), takes)


SECONDS = limit(lambda value: 0 < value <= LONGEST, "seconds, more than 0, up to 1e9")
MEGABYTES = limit(lambda value: value >= 0, "a number from 0")


def _is_offset(value: Any) -> bool:
    return value in ("auto", "none") or (_is_whole(value) and abs(value) < 1 << 16)


def _is_output_name(value: str | None) -> bool:
    return value is None or (bool(value) and "/" not in value and not value.startswith("."))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass
class Task:
    name: str


@dataclass
class Model:
    name: str
    weights: str
    repo_id: str | None = None
    revision: str | None = None
    path: str | None = None
    architecture: str | None = None
    bands: list[str] = field(default_factory=list)


@dataclass
class Chunking:
    chunk_size: int
    patch_size: int = field(metadata=whole(1))
    stride: int
    blend: str = field(metadata=one_of(*WINDOWS))
    min_valid: float = field(metadata=limit(lambda value: 0 <= value <= 1, "a share from 0 to 1"))


@dataclass
class Layers:
    names: list[str]
    probs_dtype: str = "float32"
    thresholds: Any = 0.5
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Region:
    pixels: list[int] | None = field(
        default=None,
        metadata=limit(
            lambda value: len(value) == 4 and min(value[:2]) >= 0 and min(value[2:]) > 0,
            "[row,col,height,width], the first two from 0, the last two from 1",
        ),
    )
    bbox: list[float] | None = field(
        default=None,
        metadata=limit(
            lambda value: len(value) == 4 and value[0] < value[2] and value[1] < value[3],
            "[west,south,east,north] with west < east and south < north",
        ),
    )
    crs: str | None = None


@dataclass
class Mask:
    scl: list[int] = field(
        default_factory=list,
        metadata=limit(lambda value: all(0 <= item <= 11 for item in value), "classes from 0 to 11"),
    )


@dataclass
class Demo:
    size: int | None = None
    seed: int = 7


@dataclass
class Export:
    format: str = field(metadata=one_of(*FORMATS))
    precision: str = field(metadata=one_of(*PRECISIONS))
    batch: int | None = field(metadata=limit(lambda value: 1 <= value <= MOST, "a whole number from 1, or null: any"))
    tolerance: dict[str, float]


@dataclass
class Quantization:
    patches: int = field(metadata=whole(1, MOST))


@dataclass
class Evaluate:
    patches: str | None
    metadata: str | None
    split: str | None = field(metadata=one_of(*SPLITS, null=", or null: all"))
    reference: str | None
    reference_codes: str = field(metadata=one_of(*REFERENCE_CODES))
    map: str | None


@dataclass
class Benchmark:
    repeat: int = field(metadata=whole(1))
    warmup: int = field(metadata=whole(0))
    ceiling: bool
    unstable: float = field(metadata=limit(lambda value: 0 < value < 1, "a share over 0 and under 1"))
    must_fit: bool


@dataclass
class Serve:
    host: str = field(metadata=limit(bool, "a name or address of this machine"))
    port: int = field(metadata=limit(lambda value: 0 <= value <= 65535, "0 (any that is free) to 65535"))


@dataclass
class Recommend:
    max_memory_gb: float | None = field(metadata=limit(lambda value: value > 0, "GB over 0, or null: any"))
    max_flips_per_million: float | None = field(
        metadata=limit(lambda value: 0 <= value <= 1_000_000, "0 to 1000000 pixels, or null: any")
    )


@dataclass
class Slurm:
    jobs: int | None = field(default=None, metadata=whole(1, MOST, ", or null: no SLURM"))
    cores: int = field(default=8, metadata=whole(1, MOST))
    memory: str = field(default="16GB", metadata=memory("an amount such as 16GB"))
    walltime: str = "01:00:00"
    partition: str | None = None
    account: str | None = None
    directives: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    interface: str | None = None


@dataclass
class Execution:
    name: str = field(metadata=one_of(*EXECUTIONS))
    workers: int = field(metadata=whole(1, MOST))
    threads: int = field(default=1, metadata=whole(1, MOST))
    memory: str = field(default="auto", metadata=memory("auto, or such as 4GB", "auto"))
    address: str | None = field(
        default=None,
        metadata=limit(
            re.compile(r"(tcp|tls)://[^/@\s]+:\d+").fullmatch, "the address of a scheduler, such as tcp://host:8786"
        ),
    )
    patience: float = field(default=60, metadata=SECONDS)
    slurm: Slurm = field(default_factory=Slurm)


@dataclass
class Tracking:
    name: str
    uri: str | None = None
    experiment: str = field(default="benexp", metadata=limit(str.strip, "a name"))
    max_file_mb: float = field(default=20, metadata=MEGABYTES)
    max_run_mb: float = field(default=200, metadata=MEGABYTES)
    patience: float = field(default=60, metadata=SECONDS)


@dataclass
class Config:
    task: Task
    model: Model
    chunking: Chunking
    backend: dict[str, Any]
    """`_target_` names the class; the other keys are its arguments, so that users' own backends take their own."""
    layers: Layers
    export: Export
    quantization: Quantization
    evaluate: Evaluate
    benchmark: Benchmark
    serve: Serve
    recommend: Recommend
    execution: Execution
    tracking: Tracking
    tile_folder: str | None = None
    input_dir: str | None = None
    output_folder: str = field(default="outputs", metadata=limit(bool, "a folder"))
    output_name: str | None = field(
        default=None,
        metadata=limit(_is_output_name, "a name for a folder inside the tile's, without a slash or a dot in front"),
    )
    overwrite: bool = False
    offset: Any = field(
        default="auto", metadata=limit(_is_offset, "auto, none or a whole number between -65536 and 65536")
    )
    offset_override: bool = False
    saturated: str = field(default="mask", metadata=one_of(*SATURATED))
    region: Region = field(default_factory=Region)
    mask: Mask = field(default_factory=Mask)
    integrity: str = field(default="auto", metadata=one_of(*INTEGRITY))
    resume: bool = True
    seed: int = 0
    dry_run: bool = False
    backends: list[str] = field(default_factory=list)
    demo: Demo = field(default_factory=Demo)


def rules(c: Config) -> Iterator[tuple[str, Any, bool, str]]:
    """The limits across keys and inside open groups: key, value, whether it is right, and what it takes."""
    k, region, slurm, uri = c.chunking, c.region, c.execution.slurm, c.tracking.uri or ""
    patch = f"chunking.patch_size={k.patch_size}, or"
    large = f"a whole number from {patch} every pixel would be read many times over"
    yield "chunking.chunk_size", k.chunk_size, k.chunk_size >= k.patch_size, large
    dense = f"1 to {patch} pixels between the patches would get no class"
    yield "chunking.stride", k.stride, 1 <= k.stride <= k.patch_size, dense
    listed = f"effect with task=compare alone; task={c.task.name} runs the one of backend="
    yield "backends", f"[{','.join(c.backends)}]", not c.backends or c.task.name == "compare", listed
    lone = c.offset_override and c.offset == "auto"
    yield "offset_override", "true", not lone, "effect only beside offset=none or a number"
    yield "region", "pixels and bbox", region.pixels is None or region.bbox is None, "one of the two"
    yield "region.crs", region.crs, region.crs is None or region.bbox is not None, "a CRS only beside region.bbox"
    yield "backend._target_", c.backend.get("_target_"), bool(c.backend.get("_target_")), "the class of a backend"
    sizes = "auto, or null: 256 on a GPU, else 32"
    for key, words, says in (("batch_size", ("auto", None), sizes), ("threads", (None,), "or null: all cores")):
        value: Any = c.backend.get(key)
        right = value in words or (_is_whole(value) and 1 <= value <= MOST)
        yield f"backend.{key}", value, right, f"a whole number from 1 to {MOST}, {says}"
    fallback = c.backend.get("allow_fallback", False)
    yield "backend.allow_fallback", fallback, isinstance(fallback, bool), "true or false"
    for precision, tolerance in c.export.tolerance.items():
        key = f"export.tolerance.{precision}"
        yield key, tolerance, precision in PRECISIONS, f"one of {', '.join(PRECISIONS)} as its last part"
        yield key, tolerance, 0 < tolerance <= 1, "a difference of probabilities, over 0 and up to 1"
    scheduled = bool(c.execution.address and slurm.jobs)
    yield "execution.address", c.execution.address, not scheduled, "null where execution.slurm.jobs starts workers"
    alone = c.execution.name == "local" and c.execution.workers == 1
    one = "classify alone with workers: leave out execution, and this task runs in one process"
    yield "task", c.task.name, alone or c.task.name == "classify", one
    yield "tracking.uri", c.tracking.uri, bool(uri) or c.tracking.name == "none", "a database file or a server"
    # Records hold the configuration, and people share records.
    secret = "one without a password, which every record would show: set MLFLOW_TRACKING_USERNAME and _PASSWORD"
    yield "tracking.uri", "(hidden)", not re.search(r"//[^/@]*:[^/@]*@", uri), secret
